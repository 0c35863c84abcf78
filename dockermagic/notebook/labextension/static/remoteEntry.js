// What JupyterLab and Notebook 7 need to know of dockermagic, as three plugins: cards in notebooks whose kernel is gone,
// Dockerfile colours in %%dockerfile cells, and the cells' order for the kernel with marks on stale cells in return.
//
// JupyterLab and Notebook 7 show a widget as an error where its kernel is gone, although the card stands right beside it
// in the same bundle. This extension draws outputs that bear a card's own type: the card at once, and in its place the
// live widget as soon as, and only if, it can be had. It is written in the form in which JupyterLab loads extensions, so
// that nothing has to be built: it takes what it needs from the modules that the application shares.
(() => {
  const CARD = "application/vnd.dockermagic.card+json";
  const VIEW = "application/vnd.jupyter.widget-view+json";
  const HTML = "text/html";
  const ENDS = new Set(["restarting", "autorestarting", "terminating", "dead"]);

  /** @type {Record<string, Record<string, {get: () => Promise<() => any>}>>} */
  let scope = {};
  const HERE = /** @type {HTMLScriptElement} */ (document.currentScript).src;

  /** A module that the application shares. @param {string} name */
  const shared = async (name) => {
    const versions = scope[name];
    if (!versions) throw new Error(`JupyterLab shares no ${name}`);
    return (await Object.values(versions)[0].get())();
  };

  const cards = async () => {
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
        this.patience = 240;
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
        const factory = panel?.content.rendermime.getFactory(VIEW);
        if (!factory || factory === this.rendermime.getFactory(VIEW)) {
          // A notebook that is being opened knows no widgets before its kernel is connected: until then it has the
          // application's factory, whose renderers wait for somebody to find them, and inside of this one nobody would.
          if (this.patience-- > 0) setTimeout(() => this.isAttached && this.revive().catch(console.warn), 500);
          return;
        }
        this.asked = wanted;
        panel.sessionContext.statusChanged.connect(this.told, this);
        this.live?.dispose();
        const live = panel.content.rendermime.createRenderer(VIEW);
        live.hide();
        this.live = live;
        this.addWidget(live);
        new MutationObserver(() => this.choose()).observe(live.node, { childList: true });
        await live.renderModel(this.model);
        this.choose();
      }

      /** A kernel that ends takes its widgets with it: their buttons would be pressed in vain.
       * @param {any} sender @param {string} status */
      told(sender, status) {
        if (!ENDS.has(status)) return;
        sender.statusChanged.disconnect(this.told, this);
        this.live?.dispose();
        this.choose();
      }

      /** The live widget where there is one, the card where there is none. */
      choose() {
        const lives = Boolean(this.live && !this.live.isDisposed && this.live.widgets?.length);
        if (this.live && !this.live.isDisposed) this.live.setHidden(!lives);
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

  // The first line of a cell says in which language the rest is; where it says nothing, the type of the whole does. Our
  // Dockerfile is laid over the notebook's language, and taken away when the line changes.
  const MAGIC = /^\s*%%(dockerfile|python3?)(?=\s|$)/;
  const DOCKERFILE = "text/x-dockerfile";
  const PYTHON = "text/x-python";

  const colours = async () => {
    const [{ Compartment, Prec, RangeSetBuilder }, { Decoration, EditorView, ViewPlugin }, codemirror, language, made] =
      await Promise.all([
        shared("@codemirror/state"),
        shared("@codemirror/view"),
        shared("@jupyterlab/codemirror"),
        shared("@codemirror/language"),
        import(new URL("dockerfile.js", HERE).href),
      ]);
    const { EditorExtensionRegistry, IEditorExtensionRegistry, IEditorLanguageRegistry } = codemirror;
    const dockerfile = new language.LanguageSupport(language.StreamLanguage.define(made.parser));

    /** The language that a cell's first line names, or "". @param {any} state */
    const named = (state) => {
      for (let number = 1; number <= state.doc.lines; number++) {
        const { text } = state.doc.line(number);
        if (text.trim()) return MAGIC.exec(text)?.[1].replace("3", "") ?? "";
      }
      return "";
    };

    /** @param {any} languages @param {any} model */
    const extension = (languages, model) => {
      const chosen = new Compartment();
      const line = Decoration.line({ class: "dm-magic" });

      /** The magic's own line. @param {any} state */
      const marks = (state) => {
        const builder = new RangeSetBuilder();
        for (let number = 1; number <= state.doc.lines; number++) {
          const { from, text } = state.doc.line(number);
          if (!text.trim()) continue;
          if (MAGIC.test(text)) builder.add(from, from, line);
          break;
        }
        return builder.finish();
      };

      const plugin = ViewPlugin.fromClass(
        class {
          /** @param {any} view */
          constructor(view) {
            this.view = view;
            this.language = "";
            this.decorations = marks(view.state);
            model?.mimeTypeChanged.connect(this.follow, this);
            this.follow();
          }

          /** @param {any} update */
          update(update) {
            if (!update.docChanged) return;
            this.decorations = marks(update.state);
            this.follow();
          }

          destroy() {
            this.gone = true;
            model?.mimeTypeChanged.disconnect(this.follow, this);
          }

          /** An editor cannot be changed while it is being drawn: the language comes a moment later. */
          async follow() {
            const wanted = named(this.view.state) || (model?.mimeType === DOCKERFILE ? "dockerfile" : "");
            if (wanted === this.language) return;
            this.language = wanted;
            const python = wanted === "python" && (await languages.getLanguage(PYTHON));
            await null;
            if (this.gone || this.language !== wanted) return;
            const support = wanted === "dockerfile" ? dockerfile : python?.support;
            const effects = chosen.reconfigure(support ? Prec.highest(support) : []);
            this.view.dispatch({ effects });
          }
        },
        { decorations: (/** @type {any} */ made) => made.decorations },
      );
      const theme = EditorView.baseTheme({
        ".dm-magic, .dm-magic span": { color: "var(--jp-content-font-color2)" },
      });
      return [chosen.of([]), plugin, theme];
    };

    return {
      id: "dockermagic:colours",
      description: "Colours Dockerfiles, in %%dockerfile cells and in the kernel's.",
      autoStart: true,
      requires: [IEditorExtensionRegistry, IEditorLanguageRegistry],
      /** @param {any} app @param {any} extensions @param {any} languages */
      activate: (app, extensions, languages) => {
        extensions.addExtension({
          name: "dockermagic:colours",
          factory: (/** @type {any} */ { model }) =>
            EditorExtensionRegistry.createImmutableExtension(extension(languages, model)),
        });
      },
    };
  };

  // With each request that may be one of ours go the ids of the notebook's cells, from top to bottom, and of those that
  // are gone since the one before: of cells that were merged JupyterLab itself says nothing. The kernel answers with the
  // ids of those that are stale.
  const OURS = "dockermagic";
  const RUN = "notebook:run-cell";
  const OUR_CODE = /^\s*%%?docker/m;
  const STALE = "Stale: something above it changed. Run it, or %dockerfile replay.";
  const STYLE = `
    .jp-Cell.dm-stale > .jp-Cell-inputWrapper .jp-InputPrompt { opacity: 1; }
    .jp-Cell.dm-stale > .jp-Cell-inputWrapper .jp-InputPrompt::after {
      content: "stale"; display: block; font-size: 10px; line-height: 1; letter-spacing: 0.03em;
      color: var(--jp-warn-color0, #b26a00);
    }
    .jp-Cell.dm-stale > .jp-Cell-inputWrapper .jp-InputArea-editor {
      box-shadow: inset 2px 0 0 var(--jp-warn-color1, #f0a030);
    }`;

  const order = async () => {
    const { INotebookTracker } = await shared("@jupyterlab/notebook");

    /** @param {any} panel @param {Set<string>} stale */
    const mark = (panel, stale) => {
      for (const cell of panel.content.widgets) {
        const is = stale.has(cell.model.id);
        cell.toggleClass("dm-stale", is);
        const prompt = cell.node.querySelector(".jp-InputPrompt");
        if (prompt && is) prompt.title = STALE;
        else prompt?.removeAttribute("title");
      }
    };

    /** The cells whose saved cards say that they are stale: a notebook that is opened has not asked its kernel yet.
     * @param {any} panel @returns {Set<string>} */
    const saved = (panel) => {
      const stale = (/** @type {any} */ cell) => {
        const outputs = cell.model.outputs;
        for (let at = 0; at < (outputs?.length ?? 0); at++) if (outputs.get(at).data[CARD]?.stale) return true;
        return false;
      };
      return new Set(panel.content.widgets.filter(stale).map((/** @type {any} */ cell) => cell.model.id));
    };

    /** The cells of a notebook, which may have several views. @param {any} context @returns {string[]} */
    const cells = ({ model }) => Array.from({ length: model.cells.length }, (_, at) => model.cells.get(at).id);

    /** What stands in the notebook now, and what has stood there. @param {any} context */
    const news = (context) => {
      const now = cells(context);
      const deleted = (context[OURS] ?? []).filter((/** @type {string} */ id) => !now.includes(id));
      context[OURS] = now;
      return { cells: now, deleted };
    };

    /** @param {any} tracker @param {any} context @param {any} kernel */
    const watch = (tracker, context, kernel) => {
      if (!kernel || kernel[OURS]) return;
      kernel[OURS] = true;
      const request = kernel.requestExecute.bind(kernel);
      kernel.requestExecute = (/** @type {any} */ content, /** @type {any} */ dispose, /** @type {any} */ metadata) => {
        const ours = !context.isDisposed && (kernel.name === "dockerfile" || OUR_CODE.test(content.code));
        return request(content, dispose, ours ? { ...metadata, [OURS]: news(context) } : metadata);
      };
      kernel.registerCommTarget(OURS, (/** @type {any} */ comm, /** @type {any} */ message) => {
        const stale = new Set(message.content.data.stale);
        tracker.forEach((/** @type {any} */ panel) => panel.context === context && mark(panel, stale));
      });
    };

    /** @param {any} tracker @param {any} panel */
    const meet = (tracker, panel) => {
      const { context, sessionContext } = panel;
      watch(tracker, context, sessionContext.session?.kernel);
      sessionContext.kernelChanged.connect((/** @type {any} */ sender, /** @type {any} */ change) => {
        mark(panel, saved(panel));
        watch(tracker, context, change.newValue);
      });
      context.ready.then(() => {
        context[OURS] ??= cells(context);
        mark(panel, saved(panel));
      });
    };

    return {
      id: "dockermagic:order",
      description: "Tells the kernel the order of the cells, and marks stale cells.",
      autoStart: true,
      requires: [INotebookTracker],
      /** @param {any} app @param {any} tracker */
      activate: (app, tracker) => {
        const style = document.createElement("style");
        style.textContent = STYLE;
        document.head.append(style);
        tracker.forEach((/** @type {any} */ panel) => meet(tracker, panel));
        tracker.widgetAdded.connect((/** @type {any} */ sender, /** @type {any} */ panel) => meet(tracker, panel));
        // A card's button asks for its cell to be run, as it stands now.
        document.addEventListener("dockermagic-run", (event) => {
          const { target, detail } = /** @type {CustomEvent} */ (event);
          const panel = tracker.find((/** @type {any} */ one) => one.node.contains(target));
          const index = panel ? cells(panel.context).indexOf(detail) : -1;
          if (index < 0 || panel !== tracker.currentWidget || !app.commands.hasCommand(RUN)) return;
          event.preventDefault();
          panel.content.deselectAll();
          panel.content.activeCellIndex = index;
          app.commands.execute(RUN);
        });
      },
    };
  };

  const container = {
    /** @param {any} given */
    init: async (given) => void (scope = given),
    /** @param {string} name */
    get: async (name) => {
      if (name !== "./extension") throw new Error(`dockermagic has no ${name}`);
      const plugins = await Promise.all([cards(), colours(), order()]);
      return () => ({ __esModule: true, default: plugins });
    },
  };
  const known = /** @type {any} */ (globalThis);
  known._JUPYTERLAB = known._JUPYTERLAB || {};
  known._JUPYTERLAB.dockermagic = container;
})();
