//! Validates our documents with third-party tools: `cargo xtask e2e --only documents` passes their paths in the
//! environment.

mod documents {
    use std::{
        fs,
        io::Write as _,
        path::Path,
        process::{Command, Output, Stdio},
    };

    use bp_artifact::{Artifact, Digest, ImageRef};
    use serde_json::{Value, json};

    fn program(variable: &str) -> Command {
        Command::new(
            std::env::var_os(variable).unwrap_or_else(|| panic!("{variable}: the path of the program")),
        )
    }

    fn schema(name: &str) -> String {
        format!("{}/../../docs/schema/{name}.schema.json", env!("CARGO_MANIFEST_DIR"))
    }

    /// Whether the validator accepts a file for the schema, and its output.
    fn validated(schema: &str, file: &Path) -> (bool, String) {
        let mut validator = program("BP_E2E_CHECK_JSONSCHEMA");
        validator.args(["--schemafile", schema]).arg(file);
        let Output { status, stdout, .. } = validator.output().expect("it starts");
        (status.success(), String::from_utf8_lossy(&stdout).into_owned())
    }

    fn artifact() -> Artifact {
        let variables = [
            ("CODEBUILD_BUILD_ID", "shop:b1e6661e"),
            ("CODEBUILD_START_TIME", "1760000000000"),
            ("CODEBUILD_RESOLVED_SOURCE_VERSION", "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"),
            ("CODEBUILD_SOURCE_REPO_URL", "https://github.com/example/shop"),
        ];
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let mut artifact = Artifact::from_environment(variable).expect("CodeBuild");
        let image: ImageRef =
            format!("r.example.com/shop/web:1.4.2@{}", Digest::sha256("x")).parse().expect("an image");
        artifact.image = Some(image.into());
        artifact
    }

    #[test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    fn schemas_are_valid_and_accept_our_documents() {
        for name in ["artifact", "bp.toml"] {
            let mut validator = program("BP_E2E_CHECK_JSONSCHEMA");
            let ended = validator.args(["--check-metaschema", &schema(name)]).output().expect("it starts");
            assert!(ended.status.success(), "{name}: {}", String::from_utf8_lossy(&ended.stdout));
        }
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("artifact.json");
        let written = artifact().to_json();
        let mut misspelt: Value = serde_json::from_str(&written).expect("JSON");
        misspelt["image"]["digest"] = json!(7);
        for (text, good) in [
            (written.as_str(), true),
            (r#"{ "commit_sha": "1a2b3c4" }"#, true),
            (r#"{ "commit_sha": "1a2b3c4", "of": { "another": "tool" } }"#, true),
            (&misspelt.to_string(), false),
            (r#"{ "image": { "tag": "1" } }"#, false),
        ] {
            fs::write(&file, text).expect("written");
            assert_eq!(Artifact::parse(text, "artifact.json").is_ok(), good, "{text}");
            let (valid, said) = validated(&schema("artifact"), &file);
            assert_eq!(valid, good, "{text}: {said}");
        }

        let file = directory.path().join("bp.toml");
        let one = include_str!("../../../examples/one-service.toml");
        let several = include_str!("../../../examples/bp.toml");
        for (config, from, to, good) in [
            (one, "", "", true),
            (one, "name = \"shop\"", "name = \"shop\"\nowner = \"web\"\ntags.Cost = \"7\"", true),
            (one, "[environment.ecs]", "[environment.limits]\nfailures = 3\n[environment.ecs]", true),
            (one, "[environment.ecs]", "[environment.limits]\nfailures = \"25%\"\n[environment.ecs]", true),
            (one, "[environment.ecs]", "[environment.limits]\nfailures = 0\n[environment.ecs]", false),
            (
                one,
                "[environment.ecs]",
                "[environment.gate.go-live]\napproval = true\n[environment.ecs]",
                true,
            ),
            (one, "[environment.ecs]", "[environment.gate.a]\napproval = false\n[environment.ecs]", false),
            (one, "[environment.ecs]", "[environment.gate.A]\napproval = true\n[environment.ecs]", false),
            (
                one,
                "[environment.ecs]",
                "[environment.gate.a]\ncommand = [\"./a\", \"\"]\n[environment.ecs]",
                true,
            ),
            (one, "[environment.ecs]", "[environment.gate.a]\ncommand = []\n[environment.ecs]", false),
            (one, "[environment.ecs]", "[environment.gate.a]\ncommand = \"./a\"\n[environment.ecs]", false),
            (one, "[environment.ecs]", "[environment.gate.a]\nurl = \"ftp://a\"\n[environment.ecs]", false),
            (one, "[environment.ecs]", "[environment.gate.a]\ntimeout = \"1m\"\n[environment.ecs]", false),
            (
                one,
                "[environment.ecs]",
                "[environment.gate.a]\nurl = \"https://a\"\nstatus = 204\njson.\"/a\" = \"b\"\n[environment.ecs]",
                true,
            ),
            (
                one,
                "[environment.ecs]",
                "[environment.gate.a]\nurl = \"https://a\"\nstatus = 20\n[environment.ecs]",
                false,
            ),
            (
                one,
                "[environment.ecs]",
                "[environment.gate.a]\napproval = true\nstatus = 200\n[environment.ecs]",
                false,
            ),
            (
                one,
                "[environment.ecs]",
                "[environment.deploy]\non-failure = \"pray\"\n[environment.ecs]",
                false,
            ),
            (one, "account = \"111111111111\"", "account = \"1111\"", false),
            (one, "account = \"111111111111\"", "account = 111111111111", false),
            (one, "region = \"eu-central-1\"", "regoin = \"eu-central-1\"", false),
            (one, "service = \"shop-web\"", "", false),
            (one, "version = 1", "version = 2", false),
            (several, "", "", true),
            (several, "ecs.cpu = \"512\"", "ecs.container = \"jobs\"", true),
            (several, "after = \"worker\"", "after = 7", false),
            (several, "[service.ecs]", "[service.esc]", false),
        ] {
            assert!(config.contains(from), "{from} is not in the file");
            let text = config.replacen(from, to, 1);
            fs::write(&file, &text).expect("written");
            assert_eq!(bp_artifact::Config::parse(&text, "bp.toml").is_ok(), good, "{from} -> {to}");
            let (valid, said) = validated(&schema("bp.toml"), &file);
            assert_eq!(valid, good, "{from} -> {to}: {said}");
        }
    }

    /// The published formats of CodePipeline's files, as schemas derived from its user guide.
    #[test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    fn exports_match_the_published_formats() {
        let directory = tempfile::tempdir().expect("a directory");
        let artifact = artifact();
        for (form, projection) in [
            ("imagedefinitions", artifact.image_definitions(["web", "worker"])),
            ("imageDetail", artifact.image_detail()),
            ("skaffold-builds", artifact.skaffold_builds("web")),
        ] {
            let schema = format!("{}/tests/forms/{form}.schema.json", env!("CARGO_MANIFEST_DIR"));
            let file = directory.path().join("form.json");
            let projection = projection.expect("a digest");
            for (document, good) in [(projection.clone(), true), (json!({ "wrong": projection }), false)] {
                fs::write(&file, document.to_string()).expect("written");
                let (valid, said) = validated(&schema, &file);
                assert_eq!(valid, good, "{document}: {said}");
            }
        }
    }

    /// Validates a statement from standard input with the in-toto project's library.
    const IN_TOTO: &str = "
import sys
from google.protobuf import json_format
from in_toto_attestation.v1 import statement, statement_pb2
statement.Statement.copy_from_pb(json_format.Parse(sys.stdin.read(), statement_pb2.Statement())).validate()
";

    #[test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    fn in_toto_accepts_our_subject() {
        let subject = artifact().in_toto_subject().expect("a digest");
        let statement = |subject: Value| {
            json!({
                "_type": "https://in-toto.io/Statement/v1",
                "subject": subject,
                "predicateType": "https://example.com/predicate/v1",
                "predicate": { "a": "b" },
            })
        };
        let without_digest = json!([{ "name": subject[0]["name"] }]);
        for (subject, good) in [(subject, true), (without_digest, false), (json!([]), false)] {
            let mut python = program("BP_E2E_IN_TOTO");
            python.args(["-c", IN_TOTO]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = python.spawn().expect("it starts");
            let text = statement(subject).to_string();
            child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
            let ended = child.wait_with_output().expect("it ends");
            assert_eq!(ended.status.success(), good, "{text}: {}", String::from_utf8_lossy(&ended.stderr));
        }
    }
}
