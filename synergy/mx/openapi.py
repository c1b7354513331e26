"""The OpenAPI document, made of the table of routes: what is not in it cannot be asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

from synergy.mx.roles import Role
from synergy.mx.routes import Route
from synergy.schemas import schema

PROBLEM: Mapping[str, Any] = {
    "type": "object",
    "description": "RFC 9457: what went wrong, and what would be accepted",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
    },
    "required": ["type", "title", "status"],
}


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """OpenAPI 3.1 of those of the routes that are for programs."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.kind == "api":
            for method in route.methods:
                paths.setdefault(route.address, {})[method.lower()] = _operation(route)
    taken = sorted({route.takes for route in routes if route.takes})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "synergy",
            "version": version,
            "description": "The timetable of one store: read it, and file requests.",
        },
        "paths": paths,
        "security": [{"token": []}],
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "./launch.py console tokens add NAME --role ROLE makes one",
                }
            },
            "schemas": {
                "problem": PROBLEM,
                **{name: _plain(schema(name)) for name in taken},
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in route.parts
    ]
    parameters += [
        {"name": name, "in": "query", "description": meaning, "schema": {"type": "string"}}
        for name, meaning in route.query.items()
    ]
    good = "202" if route.changes else "200"
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "responses": {
            good: {
                "description": "done" if good == "200" else "filed",
                "content": {"application/json": {"schema": route.gives or {"type": "object"}}},
            },
            "default": {
                "description": "what went wrong",
                "content": {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/problem"}}
                },
            },
        },
        "x-role": route.role.word,
    }
    if route.role is Role.NOBODY:
        operation["security"] = []
    if parameters:
        operation["parameters"] = parameters
    if route.takes:
        reference = {"$ref": f"#/components/schemas/{route.takes}"}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": reference}},
        }
    return operation


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != "$schema"}
