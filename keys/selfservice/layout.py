"""How a page is put into the project's own: in its `base.html` where that has a block `content`, else in ours."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template import Template, TemplateDoesNotExist
from django.template.backends.django import DjangoTemplates
from django.template.loader import get_template
from django.template.loader_tags import BlockNode, ExtendsNode
from django.urls import reverse

FOLDER = "keys/selfservice"
OF_THE_PROJECT, BLOCK = "base.html", "content"
OF_OURS = f"{FOLDER}/standalone.html"


class Links:
    """The addresses of the pages, wherever the project has included them and under whatever name.

    They are made here and not in the templates, which write a number as people do: `1,234`.
    """

    def __init__(self, request: HttpRequest) -> None:
        match = request.resolver_match
        self._namespace = match.namespace if match is not None else ""

    def of(self, page: str, *args: Any) -> str:
        """Return the address of a page by its name in the URLconf."""
        return reverse(f"{self._namespace}:{page}" if self._namespace else page, args=args)

    @property
    def list(self) -> str:
        return self.of("list")

    @property
    def create(self) -> str:
        return self.of("create")


def show(request: HttpRequest, name: str, /, **context: Any) -> HttpResponse:
    """Return the page. It is rendered now, so that an error undoes what the view did in a transaction."""
    template: Any = get_template(f"{FOLDER}/{name}.html")
    context = {"links": Links(request), "keys_layout": _layout(template.backend), **context}
    return HttpResponse(template.render(context, request))


def _layout(backend: Any) -> str:
    if not isinstance(backend, DjangoTemplates):
        return OF_OURS
    try:
        base = backend.engine.get_template(OF_THE_PROJECT)
    except TemplateDoesNotExist:
        return OF_OURS
    return OF_THE_PROJECT if BLOCK in _blocks(base, backend.engine) else OF_OURS


def _blocks(template: Template, engine: Any) -> set[str]:
    """Return the names of the blocks of a template and of those that it extends."""
    blocks: Any = template.nodelist.get_nodes_by_type(BlockNode)
    extensions: Any = template.nodelist.get_nodes_by_type(ExtendsNode)
    names = {node.name for node in blocks}
    for parent in (node.parent_name for node in extensions):
        # What a variable names is known only when a page is rendered.
        if isinstance(parent.var, str) and not parent.filters and parent.var != template.name:
            names |= _blocks(engine.get_template(parent.var), engine)
    return names
