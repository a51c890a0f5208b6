//! What stages hand each other, before judges that others wrote: a JSON Schema validator and in-toto's own library.

use anyhow::Result;

use super::{
    stage::Stage,
    tools::{CHECK_JSONSCHEMA, IN_TOTO},
};

pub(super) fn run(stage: &mut Stage) -> Result<()> {
    stage.environment = vec![
        ("BP_E2E_CHECK_JSONSCHEMA", stage.tools.command(CHECK_JSONSCHEMA)?.get_program().into()),
        ("BP_E2E_IN_TOTO", stage.tools.command(IN_TOTO)?.get_program().into()),
    ];
    stage.scenarios("documents", "their own tools")
}
