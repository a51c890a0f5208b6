//! Validation of our documents with other tools: a JSON Schema validator and in-toto's own library.

use anyhow::Result;

use super::{
    test_run::TestRun,
    tools::{CHECK_JSONSCHEMA, IN_TOTO},
};

pub(super) fn run(test_run: &mut TestRun) -> Result<()> {
    test_run.environment = vec![
        ("BP_E2E_CHECK_JSONSCHEMA", test_run.tools.command(CHECK_JSONSCHEMA)?.get_program().into()),
        ("BP_E2E_IN_TOTO", test_run.tools.command(IN_TOTO)?.get_program().into()),
    ];
    test_run.scenarios("documents", "validators")
}
