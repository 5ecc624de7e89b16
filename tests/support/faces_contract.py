"""An import contract: only its own package imports a module; all others import the package, through its face."""

from __future__ import annotations

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, output
from importlinter.domain import fields


class FacesContract(Contract):
    """Breaks for each import of a module of another package below `root`.

    A package's own modules, at any depth, import each other freely. A package below a package may be imported from
    outside by its own face. `inner` packages may not be imported from outside at all.
    """

    root = fields.StringField()
    inner = fields.SetField(subfield=fields.StringField(), required=False, default=set())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        broken: list[str] = []
        for importer in sorted(graph.find_descendants(self.root)):  # type: ignore[arg-type]
            for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                if not self._is_allowed(graph, importer, imported):
                    broken.append(f"{importer} -> {imported}")
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def _is_allowed(self, graph: ImportGraph, importer: str, imported: str) -> bool:
        depth = str(self.root).count(".") + 2
        package = ".".join(imported.split(".")[:depth])
        outside = not imported.startswith(f"{self.root}.") or imported == package
        if outside or (importer + ".").startswith(package + "."):
            return True
        inner = any((imported + ".").startswith(f"{name}.") for name in self.inner)  # type: ignore[attr-defined]
        return bool(graph.find_children(imported)) and not inner

    def render_broken_contract(self, check: ContractCheck) -> None:
        for line in check.metadata["broken"]:
            output.print_error(f"- {line}", bold=False)
