"""The limits profiles, one for each kind."""

from __future__ import annotations

import pytest

from gateway.policy.limits import LIMIT_NAMES, LimitsProfile, profile_for
from gateway.policy.principal import Kind


def test_a_device_gets_the_figures_for_strangers() -> None:
    assert profile_for(Kind.DEVICE) == LimitsProfile(
        max_frame_bytes=65_536,
        max_metadata_bytes=4_096,
        max_metadata_entries=16,
        max_route_bytes=255,
        max_mime_bytes=127,
        max_setup_bytes=8_192,
        max_streams=128,
        requests_per_second=50,
        request_burst=100,
        max_reassembly_bytes=1_048_576,
        max_fragments=64,
        max_partials=8,
        max_partial_bytes=2_097_152,
        partial_idle_s=10.0,
        min_fragment_bytes=64,
        broken_messages=3,
        max_keepalive_bytes=64,
        ignored_frames=200,
        ignored_bytes=1_048_576,
        ignored_window_s=10.0,
        high_water_bytes=262_144,
        hard_water_bytes=1_048_576,
        write_deadline_s=10.0,
        resume_bytes=262_144,
        resume_hold_s=60.0,
        max_memory_bytes=2_097_152,
        bytes_per_second=262_144,
        premature_ends=500,
        keepalive_burst=5,
        pushes_per_second=10,
        request_n_burst=64,
    )


def test_a_user_gets_what_a_device_gets_in_any_number_of_places() -> None:
    assert profile_for(Kind.USER) == profile_for(Kind.DEVICE, {"max_connections": 0})


@pytest.mark.parametrize("kind", [Kind.SERVICE, Kind.NODE, Kind.ADMIN])
def test_trusted_kinds_have_no_rate_and_no_stream_limit(kind: Kind) -> None:
    profile = profile_for(kind)
    assert profile.max_streams == 0
    assert profile.requests_per_second == 0
    assert profile.max_frame_bytes == 0xFFFFFF
    assert profile.max_metadata_bytes == 65_536


@pytest.mark.parametrize("kind", list(Kind))
def test_devices_users_and_services_may_resume(kind: Kind) -> None:
    expected = 0 if kind in (Kind.NODE, Kind.ADMIN) else 262_144
    assert profile_for(kind).resume_bytes == expected


@pytest.mark.parametrize("kind", list(Kind))
def test_every_profile_is_consistent(kind: Kind) -> None:
    profile = profile_for(kind)
    assert profile.high_water_bytes < profile.hard_water_bytes
    assert profile.max_metadata_bytes < profile.max_frame_bytes
    assert profile.max_setup_bytes <= profile.max_frame_bytes
    assert profile.max_reassembly_bytes >= profile.max_frame_bytes


def test_single_figures_can_be_replaced() -> None:
    profile = profile_for(Kind.DEVICE, {"max_streams": 7, "write_deadline_s": 2.5})
    assert (profile.max_streams, profile.write_deadline_s) == (7, 2.5)
    assert profile.max_frame_bytes == profile_for(Kind.DEVICE).max_frame_bytes
    assert profile_for(Kind.DEVICE).max_streams == 128


def test_an_override_of_no_limit_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no such limit: max_stream$"):
        profile_for(Kind.DEVICE, {"max_stream": 7})
    assert "max_streams" in LIMIT_NAMES
