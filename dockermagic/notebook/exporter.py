"""nbconvert's way to a Dockerfile: ``jupyter nbconvert --to dockerfile``, and File > Save and Export Notebook As."""

from __future__ import annotations

from typing import Any

from nbconvert.exporters import Exporter
from traitlets import Bool, default

from dockermagic.conversion import to_dockerfile

__all__ = ["DockerfileExporter"]


class DockerfileExporter(Exporter):
    """Writes the Dockerfile cells of a notebook as one Dockerfile."""

    export_from_notebook = "Dockerfile"
    output_mimetype = "text/x-dockerfile"
    markdown = Bool(True, help="The notebook's texts stand in the Dockerfile as comments.").tag(config=True)

    @default("file_extension")
    def _file_extension_default(self) -> str:
        return ".dockerfile"

    def from_notebook_node(  # type: ignore[override]  # nbconvert has no types
        self, nb: Any, resources: dict[str, Any] | None = None, **options: Any
    ) -> tuple[str, dict[str, Any]]:
        """The Dockerfile and nbconvert's resources. Raises UsageError for a notebook without any."""
        inherited: Any = super()
        nb, resources = inherited.from_notebook_node(nb, resources, **options)
        return to_dockerfile(nb, markdown=self.markdown), dict(resources or {})
