"""What is wrong with one route of a `Service`."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.documents.findings import Finding
from gateway.documents.service import Retries, Route, Service
from gateway.documents.words import Interaction
from gateway.policy.traffic import RetryOn

#: After these somebody may have processed the request.
_UNSAFE = (RetryOn.APPLICATION_ERROR, RetryOn.TIMEOUT)


def check_route(spec: Service, route: Route, pointer: str) -> Iterator[Finding]:
    yield from _check_destinations(spec, route, pointer)
    if route.retries is not None:
        yield from _check_retries(route, route.retries, f"{pointer}/retries")
    yield from _check_times(route, pointer)
    yield from _check_faults(route, f"{pointer}/fault")


def _check_destinations(spec: Service, route: Route, pointer: str) -> Iterator[Finding]:
    known = f"one of {', '.join(spec.subsets)}" if spec.subsets else "subsets: {NAME: {label: value}}"
    for at, each in enumerate(route.to):
        if each.subset is not None and each.subset not in spec.subsets:
            yield Finding("GW0131", f"there is no subset {each.subset!r}", f"{pointer}/to/{at}/subset", fix=known)
    missing = [at for at, each in enumerate(route.to) if each.weight is None]
    if len(route.to) > 1 and missing:
        text = "has no weight, and is not the only one"
        yield Finding("GW0133", text, f"{pointer}/to/{missing[0]}", fix="weight: 5")
    elif route.to and not missing and (whole := sum(each.weight or 0 for each in route.to)) != 100:
        yield Finding("GW0132", f"the weights sum to {whole}", f"{pointer}/to", fix="weights that sum to 100")
    if route.mirror is None:
        return
    copied = route.mirror.subset
    if copied not in spec.subsets:
        yield Finding("GW0131", f"there is no subset {copied!r}", f"{pointer}/mirror/subset", fix=known)
    if {each.subset for each in route.to if each.weight != 0} == {copied}:
        text = f"all requests go to {copied} already"
        yield Finding("GW0138", text, f"{pointer}/mirror/subset", fix="another subset")


def _check_retries(route: Route, retries: Retries, pointer: str) -> Iterator[Finding]:
    unsafe = [each for each in _UNSAFE if each in retries.retry_on]
    if unsafe and not route.idempotent:
        text = f"after {' and '.join(unsafe)} somebody may have processed the request already"
        fix = "idempotent: true, where that does no harm, or retryOn: [connectFailure, rejected]"
        yield Finding("GW0136", text, f"{pointer}/retryOn", fix=fix)
    if RetryOn.TIMEOUT in retries.retry_on and retries.per_try_timeout is None:
        yield Finding("GW0137", "no try ends by a timeout", f"{pointer}/retryOn", fix="perTryTimeout: 1s")
    each, whole = retries.per_try_timeout, route.timeout
    if each is None or whole is None:
        return
    if each >= whole:
        text = f"the route's timeout, {whole:g}s, ends the request before one try is over"
        yield Finding("GW0137", text, f"{pointer}/perTryTimeout", fix="less than timeout")
    elif RetryOn.TIMEOUT in retries.retry_on and each * (retries.attempts + 1) > whole:
        text = f"{retries.attempts + 1} tries of {each:g}s have no room in the route's timeout, {whole:g}s"
        yield Finding("GW0137", text, f"{pointer}/perTryTimeout", warning=True)


def _check_times(route: Route, pointer: str) -> Iterator[Finding]:
    if route.timeout is not None and route.wait_for_route >= route.timeout:
        text = f"the route's timeout, {route.timeout:g}s, ends the request first"
        yield Finding("GW0150", text, f"{pointer}/waitForRoute", fix="less than timeout", warning=True)
    only = {interaction for match in route.match for interaction in match.interaction}
    unanswered = bool(route.match) and all(match.interaction for match in route.match)
    if not unanswered or only != {Interaction.FIRE_AND_FORGET}:
        return
    for name, said in (("timeout", route.timeout is not None), ("retries", route.retries is not None)):
        if said and (name != "retries" or not _before_sending(route.retries)):
            text = "a fireAndForget has no answer, so that nothing can be late or fail"
            yield Finding("GW0149", text, f"{pointer}/{name}", fix=f"no {name}", warning=True)


def _before_sending(retries: Retries | None) -> bool:
    return retries is not None and set(retries.retry_on) <= {RetryOn.CONNECT_FAILURE}


def _check_faults(route: Route, pointer: str) -> Iterator[Finding]:
    fault = route.fault
    if fault is None:
        return
    parts = {"abort": fault.abort, "drop": fault.drop, "disconnect": fault.disconnect, "delay": fault.delay}
    for name, part in parts.items():
        if part is not None and part.percentage == 100:
            text = "every request that fits: nothing gets through" if name != "delay" else "every request that fits"
            yield Finding("GW0139", text, f"{pointer}/{name}/percentage", warning=True)
    if fault.delay is not None and route.timeout is not None and fault.delay.fixed_delay >= route.timeout:
        text = f"longer than the route's timeout, {route.timeout:g}s: what is delayed fails"
        yield Finding("GW0139", text, f"{pointer}/delay/fixedDelay", warning=True)
