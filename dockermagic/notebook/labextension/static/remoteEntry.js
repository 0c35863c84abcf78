// JupyterLab and Notebook 7 show a widget as an error where its kernel is gone, although the card stands right beside it
// in the same bundle. This extension draws outputs that bear a card's own type: the card at once, and in its place the
// live widget as soon as, and only if, it can be had. It is written in the form in which JupyterLab loads extensions, so
// that nothing has to be built: it takes what it needs from the modules that the application shares.
(() => {
  const CARD = "application/vnd.dockermagic.card+json";
  const VIEW = "application/vnd.jupyter.widget-view+json";
  const HTML = "text/html";

  /** @type {Record<string, Record<string, {get: () => Promise<() => any>}>>} */
  let scope = {};

  /** A module that the application shares. @param {string} name */
  const shared = async (name) => {
    const versions = scope[name];
    if (!versions) throw new Error(`JupyterLab shares no ${name}`);
    return (await Object.values(versions)[0].get())();
  };

  const load = async () => {
    const [{ Panel }, { IRenderMimeRegistry }, { INotebookTracker }] = await Promise.all([
      shared("@lumino/widgets"),
      shared("@jupyterlab/rendermime"),
      shared("@jupyterlab/notebook"),
    ]);

    class CardRenderer extends Panel {
      /** @param {any} rendermime @param {any} tracker */
      constructor(rendermime, tracker) {
        super();
        this.rendermime = rendermime;
        this.tracker = tracker;
        this.still = null;
        this.live = null;
        this.patience = 60;
      }

      /** @param {any} model */
      async renderModel(model) {
        this.model = model;
        this.still?.dispose();
        this.still = this.rendermime.createRenderer(HTML);
        this.insertWidget(0, this.still);
        await this.still.renderModel(model);
        if (this.isDisposed) return;
        this.choose();
        if (this.isAttached) await this.revive();
      }

      /** @param {any} message */
      onAfterAttach(message) {
        super.onAfterAttach?.(message);
        if (this.model) this.revive().catch(console.warn);
      }

      /** Ask the widgets of this notebook for the live one. */
      async revive() {
        const wanted = this.model.data[VIEW]?.model_id;
        if (!wanted || wanted === this.asked) return;
        const panel = this.tracker?.find((/** @type {any} */ one) => one.node.contains(this.node));
        if (!panel || !panel.content.rendermime.mimeTypes.includes(VIEW)) {
          // A notebook that is being opened knows no widgets before its kernel is connected.
          if (this.patience-- > 0) setTimeout(() => this.isAttached && this.revive().catch(console.warn), 500);
          return;
        }
        this.asked = wanted;
        this.live?.dispose();
        const live = panel.content.rendermime.createRenderer(VIEW);
        live.hide();
        this.live = live;
        this.addWidget(live);
        new MutationObserver(() => this.choose()).observe(live.node, { childList: true });
        await live.renderModel(this.model);
        this.choose();
      }

      /** The live widget where there is one, the card where there is none. */
      choose() {
        const lives = Boolean(this.live?.widgets?.length);
        if (this.live) this.live.setHidden(!lives);
        this.still?.setHidden(lives);
      }
    }

    return {
      id: "dockermagic:cards",
      description: "Shows dockermagic's cards in notebooks whose kernel is gone.",
      autoStart: true,
      requires: [IRenderMimeRegistry],
      optional: [INotebookTracker],
      /** @param {any} app @param {any} rendermime @param {any} tracker */
      activate: (app, rendermime, tracker) => {
        const createRenderer = () => new CardRenderer(rendermime, tracker);
        rendermime.addFactory({ safe: true, mimeTypes: [CARD], defaultRank: -20, createRenderer }, -20);
        /** @type {any} */ (globalThis).dockermagicFallback = true;
      },
    };
  };

  const container = {
    /** @param {any} given */
    init: async (given) => void (scope = given),
    /** @param {string} name */
    get: async (name) => {
      if (name !== "./extension") throw new Error(`dockermagic has no ${name}`);
      const plugin = await load();
      return () => ({ __esModule: true, default: plugin });
    },
  };
  const known = /** @type {any} */ (globalThis);
  known._JUPYTERLAB = known._JUPYTERLAB || {};
  known._JUPYTERLAB.dockermagic = container;
})();
