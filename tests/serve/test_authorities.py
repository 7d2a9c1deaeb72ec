"""Whom the router trusts: the usual authorities, or those that the environment names if it is to be heard."""

from __future__ import annotations

import asyncio
import ssl

import certifi
import pytest

from p2l_sdk.serve.gateway.pool import UpstreamClient


async def trusted(trust_env: bool) -> list[dict]:
    session = UpstreamClient(trust_env=trust_env)._opened()
    try:
        return session.connector._ssl.get_ca_certs()
    finally:
        await session.close()


@pytest.mark.parametrize(("trust_env", "named"), [(True, True), (True, False), (False, True)])
def test_authorities_are_those_of_the_environment_or_the_usual_ones(trust_env, named, monkeypatch):
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    if not named:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    usual = ssl.create_default_context(cafile=certifi.where()).get_ca_certs()
    found = asyncio.run(trusted(trust_env))
    assert len(found) == (1 if trust_env and named else len(usual))  # the tests have one authority: see conftest.py
    assert all(authority in usual for authority in found)
