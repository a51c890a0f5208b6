"""A pytest plugin: writes the result of every test, with the operations that the sandbox rejected as not modelled, as
lines of JSON to the file BP_E2E_RESULTS."""

import json
import os

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

LIMIT = 20
call = BaseClient._make_api_call
not_modelled = []
results = {}


def recorded(client, operation, arguments):
    try:
        return call(client, operation, arguments)
    except ClientError as error:
        if "bp-sandbox does not model" in (error.response.get("Error", {}).get("Message") or ""):
            not_modelled.append(f"{client.meta.service_model.service_name}:{operation}")
            # Some helpers of moto repeat a call until it succeeds.
            if len(not_modelled) > LIMIT:
                pytest.fail(f"the test made more than {LIMIT} calls that are not modelled")
        raise


BaseClient._make_api_call = recorded


def pytest_runtest_logreport(report):
    result = results.setdefault(report.nodeid, {"test": report.nodeid, "outcome": "passed", "message": ""})
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        result.update(outcome="failed", message=crash.message if crash else str(report.longrepr))
    elif report.skipped:
        result["outcome"] = "skipped"
    if report.when == "teardown":
        result["not_modelled"] = sorted(set(not_modelled))
        not_modelled.clear()


def pytest_sessionfinish():
    with open(os.environ["BP_E2E_RESULTS"], "w", encoding="utf-8") as file:
        file.writelines(json.dumps(result) + "\n" for result in results.values())
