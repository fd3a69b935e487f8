"""`er init`: a first spec; with comments to start from, or for Compose files as they are."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder import files
from builder.cli import output
from builder.problem_report import as_json as problems_as_json
from builder.problem_report import printable
from builder.problems import Problem, Report, SpecError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.starter.plan import Plan
    from builder.starter.questions import App, Question
    from builder.starter.request import Request

NAME = "init"
_SPEC = "easyrunner.yaml"


def command(
    path: Annotated[
        str | None, typer.Argument(metavar="[SPEC]", help="Where to write it; - is stdout.", show_default=_SPEC)
    ] = None,
    *,
    file: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="The same as SPEC; - is stdout.")
    ] = None,
    compose: Annotated[
        list[Path] | None,
        typer.Option(
            "--compose",
            metavar="FILE",
            help="A Compose file, used as it is; each further one is laid over those before it. Or a directory: "
            "its own Compose file, else a stack of each directory in it.",
        ),
    ] = None,
    build: Annotated[
        Path | None,
        typer.Option("--build", metavar="DIR", help="A directory with a Containerfile: a stack that is built from it."),
    ] = None,
    domain: Annotated[
        list[str] | None,
        typer.Option(
            "--domain",
            metavar="NAME[=[STACK/]SERVICE[:PORT]]",
            help="With --compose or --build: a public name; with --compose also where it goes when that is not clear; "
            "repeatable. Of a directory of stacks NAME=STACK.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file when it exists.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --compose: write what was decided to stdout as JSON.")
    ] = False,
) -> int:
    """Write a first spec: with comments to start from, or by --compose for Compose files as they are.

    With --compose what was decided is said, and why. What er check would refuse in the files is shown with the way out:
    the spec is written all the same, and the exit code is 1. Where something is not clear it is asked on a terminal;
    elsewhere nothing is written, and the options to give are shown.
    """
    if path is not None and file is not None:
        raise typer.BadParameter("give the file once: as SPEC, or by --output")
    target = path or file or _SPEC
    if files.replaces(target) and not force:
        raise UserError(f"{target} exists already", "give another name, or --force to replace it")
    if build:
        if compose or as_json:
            raise typer.BadParameter("--build stands alone: it has neither --compose nor --json")
        return _from_build(build, domain or [], target)
    if compose:
        return _from_compose(compose, domain or [], target, as_json=as_json)
    if domain or as_json:
        raise typer.BadParameter("--domain is for --compose and --build, --json for --compose")
    from builder import spec as specs

    files.write(target, specs.template().encode(), report=output.note)
    if files.replaces(target):
        output.note(f"wrote {target}: put your key and your domains in, then run: er check {target}")
    return 0


def _from_build(directory: Path, domains: list[str], target: str) -> int:
    from builder.starter import request, spec_file

    if not domains:
        raise typer.BadParameter("--build needs --domain: the public name of what is built")
    files.check(target)
    for name in domains:
        request.parse(name, stacks=False)
    place = Path("-" if files.is_stream(target) else target)
    name = re.sub(r"[^a-z0-9]+", "-", directory.resolve().name.lower()).strip("-0123456789")[:24].rstrip("-") or "app"
    context = os.path.relpath(directory, place.parent).replace(os.sep, "/")
    key, placeholder, key_note = _admin_key()
    content = spec_file.text_of_build(name, context, domains, key, placeholder)
    files.write(target, content.encode(), report=output.note)
    problems, shown = _problems(content, place), target if files.replaces(target) else "SPEC"
    errors = [problem for problem in problems if problem.severity == "error"]
    output.note(f"{name} is built from {context}: {shown}\n{key_note}")
    _report_problems(problems, errors, shown)
    output.note(f"next: er check {shown}; then make the server, and: er server apply HOST {shown}")
    return 1 if errors else 0


def _from_compose(named: list[Path], domains: list[str], target: str, *, as_json: bool) -> int:
    from builder.starter import plan, request, spec_file

    files.check(target)
    if as_json and files.is_stdout(target):
        raise typer.BadParameter("stdout has --json already: give a file name, or leave that out")
    apps = _apps(named)
    requests = [request.parse(given, stacks=len(apps) > 1) for given in domains]
    request.check_twice(requests)
    resolved, questions = _resolved(apps, requests)
    if questions:
        return _unanswered(questions, as_json=as_json)
    plans = plan.plans(apps, resolved)
    place = Path("-" if files.is_stream(target) else target)
    key, placeholder, key_note = _admin_key()
    content = spec_file.text(plans, place.parent, key, placeholder)
    files.write(target, content.encode(), report=output.note)
    problems = _problems(content, place)
    errors = [problem for problem in problems if problem.severity == "error"]
    if as_json:
        output.json(_as_json(plans, target, problems))
    shown = target if files.replaces(target) else "SPEC"
    _report(plans, shown, key_note)
    _report_problems(problems, errors, shown)
    _report_next(plans, shown)
    return 1 if errors else 0


def _apps(named: list[Path]) -> list[App]:
    """The stacks that the paths name, with what their files say. Raises SpecError for files that cannot be read."""
    from builder.compose.survey import survey
    from builder.starter import compose_files
    from builder.starter.questions import App

    report = Report()
    found = compose_files.find(named)
    said = [survey(files.all, report) for files in found]
    written = [(one.name, files) for one, files in zip(said, found, strict=True) if one is not None]
    if len(written) < len(found):
        raise SpecError(report)
    names = compose_files.stack_names(written)
    # What is filled in may be the name of the stack.
    again = [(name, files, survey(files.all, report, name)) for name, files in zip(names, found, strict=True)]
    return [App(name, files, one) for name, files, one in again if one is not None]


def _resolved(apps: Sequence[App], requests: list[Request]) -> tuple[list[Request], list[Question]]:
    """Each request with its stack, service and port; or the questions that nobody is here to answer."""
    from builder.starter.questions import Question, resolve

    without: set[str] = set()
    while True:
        found = resolve(apps, requests, without)
        questions = [one for one in found if isinstance(one, Question)]
        if not questions or not sys.stdin.isatty():
            return [one for one in found if not isinstance(one, Question)], questions
        answer = _ask(questions[0], several=len(apps) > 1)
        if answer is None:
            without.add(questions[0].stack)
        elif questions[0].kind == "domain":
            requests = [*requests, answer]
        else:
            requests = [answer if one.domain == answer.domain else one for one in requests]


def _ask(question: Question, *, several: bool) -> Request | None:
    """The answer of who sits at the terminal; None for a stack that is to have no domain."""
    from builder.starter import questions

    output.note(printable(question.text))
    for number, choice in enumerate(question.choices, 1):
        if choice.label:
            before = "it would go to" if question.kind == "domain" else f"{number} "
            output.note(f"  {before} {printable(f'{choice.label}: {choice.why}' if choice.why else choice.label)}")
    while True:
        output.prompt(_prompt(question, several=several))
        line = sys.stdin.readline()
        if not line:
            raise UserError("no answer, so nothing was written", "give --domain, as in --domain example.com=web:8080")
        if question.kind == "domain" and several and not line.strip():
            return None
        try:
            answer = questions.answered(question, line.strip())
        except UserError as error:
            output.failure(error.message, error.hint)
            continue
        if not isinstance(answer, str):
            return answer
        output.note(f"that is not {answer}")


def _prompt(question: Question, *, several: bool) -> str:
    if question.kind == "domain":
        return f"Its domain{', or nothing for none' if several else ''}: "
    if question.kind == "port":
        first = question.choices[0].label
        return f"Its port [{first}]: " if first else "Its port: "
    return "Which one [1]: "


def _unanswered(questions: Sequence[Question], *, as_json: bool) -> int:
    """Say what is not clear, and which options would make it so; nothing is written."""
    for number, question in enumerate(questions):
        if number:
            output.note("")
        output.failure(
            printable(question.text),
            "\n".join(("give one of these:", *(f"  {printable(way)}" for way in question.ways))),
        )
    if as_json:
        listed = [
            {
                "kind": one.kind,
                "stack": one.stack or None,
                "domain": one.request.domain or None,
                "text": one.text,
                "choices": [
                    {"label": choice.label, "why": choice.why, "option": choice.option} for choice in one.choices
                ],
            }
            for one in questions
        ]
        output.json({"ok": False, "spec": None, "questions": listed, "stacks": [], "problems": []})
    return 1


def _admin_key() -> tuple[str | None, str, str]:
    """The only public key of who runs this, if there is one; what stands for one; and what is to be said of it."""
    from builder.spec import placeholder_key, ssh_keys
    from builder.starter import messages

    found = sorted(path.name for path in Path("~/.ssh").expanduser().glob("*.pub"))
    name = f"~/.ssh/{found[0]}" if len(found) == 1 else ""
    lines, faults = ssh_keys.read_entry(name, Path()) if name else ((), ())
    if len(lines) == 1 and not faults:
        return lines[0], placeholder_key(), messages.KEY_TAKEN.format(path=name)
    return None, placeholder_key(), messages.KEY_MISSING


def _problems(content: str, place: Path) -> tuple[Problem, ...]:
    """What `er check` says of the spec, but for the key that is nobody's, which is said anyway."""
    from builder import spec as specs

    try:
        _, problems = specs.loads(content, place)
    except SpecError as error:
        problems = error.problems
    return tuple(problem for problem in problems if not problem.where.startswith("admin"))


def _report(plans: Sequence[Plan], target: str, key_note: str) -> None:
    if target != "SPEC":
        output.note(f"wrote {target}: {len(plans)} stack{'s' * (len(plans) != 1)}; no Compose file was changed")
    for plan in plans:
        output.note(printable(f"{plan.app.name}: {' and '.join(str(path) for path in plan.app.files.all)}"))
        for line in _lines(plan):
            output.note(f"  {printable(line)}")
    output.note(key_note)


def _lines(plan: Plan) -> Iterator[str]:
    """What was decided for a stack, and why."""
    from builder.starter import messages

    for public in plan.public:
        where = " ".join(f"https://{domain}{path}" for domain in public.domains for path in public.paths or ("",))
        yield f"public: {where} to {public.service}, port {public.port}"
        yield f"  {public.service}: {'; '.join(public.reasons)}"
        if public.port_reason:
            yield f"  {public.port}: {public.port_reason}"
    if not plan.public:
        yield "public: nothing"
    for secret in plan.secrets:
        uses = ", ".join(f"{variable} of {service}" for service, variable in secret.uses)
        yield f"secret: {secret.name}, for {uses} ({'; '.join(secret.sources)})"
    for rule in plan.egress:
        ports = ",".join(map(str, rule.ports)) or "all ports"
        yield f"egress: {rule.to} {rule.protocol} {ports}, for {', '.join(plan.egress_for.get(rule.to, ()))}"
    if brought := plan.app.survey.contents.files:
        yield f"files: {', '.join(file.path for file in brought)}"
    required = ", ".join(name for name, needed in plan.env.items() if needed)
    empty = ", ".join(name for name, needed in plan.env.items() if not needed)
    if required:
        yield messages.UNSET_REQUIRED.format(names=required)
    if empty:
        yield messages.UNSET_EMPTY.format(names=empty)
    for note in (*plan.secret_env.kept, *plan.notes):
        yield f"note: {note}"


def _report_problems(problems: Sequence[Problem], errors: Sequence[Problem], target: str) -> None:
    if errors:
        output.note("What does not work yet:")
        output.problems(errors)
    if warnings := len(problems) - len(errors):
        output.note(f"{warnings} warning{'s' * (warnings != 1)}: er check {target} shows them")


def _report_next(plans: Sequence[Plan], target: str) -> None:
    from builder.starter import messages

    output.note(f"next: er check {target}")
    commands = [line for plan in plans for line in _secret_commands(plan)]
    if commands:
        output.note("then make the server; its services wait for their secrets:")
        for line in commands:
            output.note(f"  {printable(line)}")
        if any(secret.by_hand for plan in plans for secret in plan.secrets):
            output.note(messages.NOT_USED)
    if built := _built(plans):
        output.note(f"{', '.join(built)}: built here, by: er server apply HOST {target}")


def _built(plans: Sequence[Plan]) -> list[str]:
    """The services that are built, as in shop/web."""
    found = ((plan.app.name, service) for plan in plans for service in plan.app.survey.contents.services)
    return [f"{stack}/{service.name}" for stack, service in found if service.build]


def _secret_commands(plan: Plan) -> Iterator[str]:
    made = [secret.name for secret in plan.secrets if not secret.by_hand]
    if made:
        yield f"er server secret generate HOST {plan.app.name} {' '.join(map(shlex.quote, made))}"
    for secret in plan.secrets:
        if secret.by_hand:
            yield f"er server secret set HOST {plan.app.name} {shlex.quote(secret.name)}"


def _as_json(plans: Sequence[Plan], target: str, problems: Sequence[Problem]) -> dict[str, Any]:
    return {
        "ok": not any(problem.severity == "error" for problem in problems),
        "spec": target,
        "questions": [],
        "stacks": [_plan_as_json(plan) for plan in plans],
        "problems": problems_as_json(problems),
    }


def _plan_as_json(plan: Plan) -> dict[str, Any]:
    return {
        "name": plan.app.name,
        "uid": plan.uid,
        "compose": [str(path) for path in plan.app.files.files],
        "override": str(plan.app.files.override) if plan.app.files.override else None,
        "public": [
            {
                "service": one.service,
                "domains": list(one.domains),
                "paths": list(one.paths),
                "port": one.port,
                "why": list(one.reasons),
                "port_why": one.port_reason or None,
                "by_labels": "domains" not in one.written,
            }
            for one in plan.public
        ],
        "candidates": [
            {"service": one.service, "weight": one.weight, "why": list(one.reasons), "port": one.port.number}
            for one in plan.app.candidates
        ],
        "secret_env": plan.secret_env.section,
        "secrets": [
            {
                "name": one.name,
                "set": "by hand" if one.by_hand else "generate",
                "uses": [{"service": service, "variable": variable} for service, variable in one.uses],
                "why": list(one.sources),
            }
            for one in plan.secrets
        ],
        "in_clear": list(plan.secret_env.kept),
        "egress": [
            {
                "to": one.to,
                "protocol": one.protocol,
                "ports": list(one.ports),
                "for": list(plan.egress_for.get(one.to, ())),
            }
            for one in plan.egress
        ],
        "files": [file.path for file in plan.app.survey.contents.files],
        "by_role": list(plan.by_role),
        "env": [{"name": name, "required": required} for name, required in plan.env.items()],
        "notes": list(plan.notes),
        "commands": list(_secret_commands(plan)),
    }
