//! The commands for images in any registry, against listening registries: `copy`, `ls`, `digest`, `inspect`, `login` and
//! `logout`.

#[path = "../../bp-artifact/tests/console/mod.rs"]
mod console;

use std::{path::Path, process::Stdio, time::Duration};

use bp_sandbox::{
    Effect, Fault, Image, ImageBuilder, Sandbox, Served,
    registry::{Auth, RegistryOptions},
};
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

const MIGRATION: &str = include_str!("../../../docs/migration.md");

const SOURCE: &str = "src.example.com";
const DESTINATION: &str = "dst.example.com";
const SECURE: &str = "secure.example.com";
const IMAGE: &str = "src.example.com/shop/web:1.4.2";

/// Three registries, one of which requires a login, and a working directory.
struct Stage {
    sandbox: Sandbox,
    served: Served,
    directory: tempfile::TempDir,
    image: Image,
}

/// The exit code and the output of a command.
#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Stage {
    async fn new() -> Self {
        let secure = RegistryOptions::default().auth(Auth::basic("ci", "s3cret"));
        let sandbox = Sandbox::builder()
            .registry(SOURCE, RegistryOptions::default())
            .registry(DESTINATION, RegistryOptions::default())
            .registry(SECURE, secure)
            .build();
        let image = ImageBuilder::new()
            .platform("linux/amd64")
            .platform("linux/arm64")
            .layer([("app", "hello")])
            .label("org.opencontainers.image.title", "shop \u{1b}[2J web")
            .build();
        for registry in [SOURCE, SECURE] {
            sandbox.registry(registry).push(&image, "shop/web", "1.4.2");
        }
        let served = sandbox.serve().await.expect("it listens");
        let directory = tempfile::tempdir().expect("a directory");
        let login = r#"{"auths":{"secure.example.com":{"auth":"Y2k6czNjcmV0"}}}"#;
        std::fs::write(directory.path().join("auth.json"), login).expect("it is written");
        Stage { sandbox, served, directory, image }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, "").await
    }

    async fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let endpoint = |host: &&str| {
            let address = self.served.address(host).expect("it listens");
            format!("{host}=http://{address}")
        };
        let endpoints: Vec<_> = [SOURCE, DESTINATION, SECURE].iter().map(endpoint).collect();
        let mut child = Command::new(Path::new(env!("CARGO_BIN_EXE_bp")))
            .args(arguments)
            .current_dir(self.directory.path())
            .env_clear()
            .env("CI", "true")
            .env("HOME", self.directory.path())
            .env("BP_REGISTRY_ENDPOINTS", endpoints.join(","))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("it is a pipe");
        // A command that reads no input may have ended.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.expect("it ends");
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("it is text"),
            stderr: String::from_utf8(output.stderr).expect("it is text"),
        }
    }

    fn tags(&self, registry: &str, repository: &str) -> Vec<(String, String)> {
        self.sandbox.registry(registry).tags(repository).into_iter().collect()
    }
}

/// The commands in the last column of the table.
fn commands() -> Vec<String> {
    let rows = MIGRATION.lines().filter(|line| line.starts_with('|'));
    let last = rows.filter_map(|row| row.trim_end_matches('|').rsplit_once('|'));
    let quoted =
        last.filter_map(|(_, cell)| cell.trim().strip_prefix('`')?.split('`').next().map(str::to_owned));
    quoted.filter(|command| command.starts_with("bp ")).collect()
}

/// Every command of the table succeeds, in its order.
#[tokio::test]
async fn every_row_of_the_migration_table_runs() {
    let stage = Stage::new().await;
    let commands = commands();
    assert!(commands.len() >= 15, "{commands:?}");
    for command in &commands {
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        let end = stage.run_with(&arguments, "s3cret\n").await;
        assert_eq!(end.code, 0, "{command}: {end:?}");
        assert!(!end.stdout.is_empty(), "{command}");
    }
    let digest = stage.image.digest().to_owned();
    for (repository, tag) in
        [("shop/web", "1.4.2"), ("shop/web", "stable"), ("shop/api", "1.4.2"), ("shop/api", "2")]
    {
        let tags = stage.tags(DESTINATION, repository);
        assert!(tags.contains(&(tag.to_owned(), digest.clone())), "{repository}:{tag} {tags:?}");
    }
}

#[tokio::test]
async fn copies_are_byte_for_byte_through_layouts_and_archives() {
    let stage = Stage::new().await;
    let digest = stage.image.digest();
    for (from, to) in [
        (IMAGE, "oci:layout"),
        ("oci:layout", "oci-archive:web.tar:v1"),
        ("oci-archive:web.tar", "oci:second:v2"),
        ("oci:second:v2", "dst.example.com/shop/web"),
    ] {
        let end = stage.run(&["copy", from, to]).await;
        assert_eq!(end.code, 0, "{to}: {end:?}");
        assert!(end.stdout.trim_end().ends_with(&format!("@{digest}")), "{end:?}");
    }
    assert_eq!(stage.tags(DESTINATION, "shop/web"), [("v2".to_owned(), digest.to_owned())]);
    let listed = stage.run(&["ls", "oci:layout"]).await;
    assert_eq!((listed.code, listed.stdout.as_str()), (0, "1.4.2\n"), "{listed:?}");
    let plan = stage.run(&["copy", "--plan", IMAGE, "dst.example.com/shop/other:1"]).await;
    assert_eq!(plan.code, 0, "{plan:?}");
    assert!(plan.stdout.contains("to send") && stage.tags(DESTINATION, "shop/other").is_empty(), "{plan:?}");
}

#[tokio::test]
async fn describes_images_of_registries_and_layouts() {
    let stage = Stage::new().await;
    assert_eq!(stage.run(&["copy", IMAGE, "oci:web"]).await.code, 0);
    for image in [IMAGE, "docker://src.example.com/shop/web:1.4.2", "oci:web", "oci:web:1.4.2"] {
        let digest = stage.run(&["digest", image]).await;
        assert_eq!(digest.stdout.trim_end(), stage.image.digest(), "{image}: {digest:?}");
        let child = stage.run(&["digest", "--platform", "linux/arm64", image]).await;
        let json = stage.run(&["inspect", "--output", "json", image]).await;
        let result: Value = serde_json::from_str(json.stdout.trim_end()).expect("it is JSON");
        let result = &result["data"];
        assert_eq!(result["digest"], stage.image.digest(), "{json:?}");
        let platforms = result["platforms"].as_array().expect("a list");
        let arm = platforms.iter().find(|entry| entry["platform"] == "linux/arm64").expect("it has arm64");
        assert_eq!(arm["digest"], child.stdout.trim_end(), "{child:?}");
        let text = stage.run(&["inspect", "--platform", "linux/amd64", image]).await;
        assert_eq!(text.code, 0, "{text:?}");
        for part in ["architecture: amd64", "layer: sha256:", "label: org.opencontainers.image.title"] {
            assert!(text.stdout.contains(part), "{part}: {text:?}");
        }
        assert!(!text.stdout.contains('\u{1b}'), "{text:?}");
    }
}

#[tokio::test]
async fn errors_state_what_failed_and_what_to_do() {
    let stage = Stage::new().await;
    for (arguments, code, parts) in [
        (
            &["copy", "src.example.com/shop/web:9", "dst.example.com/shop/web:9"][..],
            2,
            &["9", "src.example.com"][..],
        ),
        (&["copy", "src.example.com/shop/web", "dst.example.com/shop/web"], 2, &["--all-tags"]),
        (&["copy", "web:1", "dst.example.com/shop/web:1"], 2, &["the registry is missing"]),
        (&["copy", "docker-daemon:web:1", "oci:x"], 2, &["only registries, oci:DIR and oci-archive:FILE"]),
        (&["copy", IMAGE, "oci:web:docker.io/library/web:1"], 2, &["not a tag"]),
        (&["copy", "--all-tags", IMAGE, "dst.example.com/shop/web"], 2, &["--all-tags", "omit the tag"]),
        (
            &["copy", "--all-tags=glob:{1,2}*", "src.example.com/shop/web", "oci:x"],
            2,
            &["braces and brackets"],
        ),
        (&["copy", "--all-tags=glob:9*", "src.example.com/shop/web", "oci:x"], 2, &["no tag of", "glob:9*"]),
        (&["copy", "--platform", "linux/s390x", IMAGE, "oci:x"], 2, &["linux/s390x", "linux/amd64"]),
        (&["copy", "--creds", "ci:s3cret", IMAGE, "oci:x"], 2, &["HOST=USER:PASSWORD"]),
        (&["copy", "--authfile", "absent.json", IMAGE, "oci:x"], 2, &["absent.json"]),
        (&["copy", "oci:absent", "dst.example.com/shop/web:1"], 2, &["absent", "oci-layout is missing"]),
        (&["copy", "secure.example.com/shop/web:1.4.2", "oci:x"], 7, &["secure.example.com"]),
        (&["digest", "src.example.com/shop/web:9"], 2, &["src.example.com/shop/web:9 was not found"]),
        (&["digest", "src.example.com/shop/web"], 2, &[":TAG"]),
        (&["digest", "--platform", "linux/s390x", IMAGE], 2, &["linux/s390x", "linux/amd64"]),
        (&["ls", IMAGE], 2, &["omit the tag"]),
        (&["ls", "src.example.com/shop/absent"], 2, &["src.example.com", "'shop/absent' does not exist"]),
        (&["inspect", "oci:absent"], 2, &["absent"]),
        (&["login", SECURE, "--username", "ci"], 2, &["--password-stdin"]),
    ] {
        let end = stage.run(arguments).await;
        assert_eq!(end.code, code, "{arguments:?}: {end:?}");
        for part in parts {
            assert!(end.stderr.contains(part), "{arguments:?}, {part}: {end:?}");
        }
        assert!(!end.stderr.contains("s3cret"), "{end:?}");
    }
    // A tag that exists with another digest.
    let other = ImageBuilder::new().layer([("app", "other")]).build();
    stage.sandbox.registry(DESTINATION).push(&other, "shop/web", "1.4.2");
    let end = stage.run(&["copy", "--no-clobber", IMAGE, "dst.example.com/shop/web:1.4.2"]).await;
    assert_eq!(end.code, 5, "{end:?}");
}

#[tokio::test]
async fn the_time_of_reading_commands_is_limited() {
    let stage = Stage::new().await;
    for (operation, arguments) in [
        ("GET tags", &["ls", "src.example.com/shop/web"][..]),
        ("HEAD manifest", &["digest", IMAGE]),
        ("GET manifest", &["digest", "--platform", "linux/amd64", IMAGE]),
        ("GET blob", &["inspect", "--platform", "linux/amd64", IMAGE]),
    ] {
        let slow = Fault::new(Effect::Delay(Duration::from_secs(3600))).at(SOURCE).on(operation);
        stage.sandbox.faults().inject(slow);
        let end = stage.run(&[arguments, &["--timeout", "500ms"]].concat()).await;
        assert_eq!(end.code, 7, "{arguments:?}: {end:?}");
        assert!(end.stderr.contains("500ms (--timeout)") && end.stdout.is_empty(), "{end:?}");
        let end = stage.run(&[arguments, &["--timeout", "1m"]].concat()).await;
        assert_eq!(end.code, 0, "{arguments:?}: {end:?}");
    }
    let end = stage.run(&["ls", "src.example.com/shop/web", "--timeout", "soon"]).await;
    assert!(end.code == 2 && end.stderr.contains("--timeout"), "{end:?}");
}

#[tokio::test]
async fn logins_are_checked_before_they_are_stored() {
    let stage = Stage::new().await;
    let login = &["login", SECURE, "--username", "ci", "--password-stdin"];
    let wrong = stage.run_with(login, "wr0ng\n").await;
    assert_eq!(wrong.code, 7, "{wrong:?}");
    assert!(wrong.stderr.contains(SECURE) && !wrong.stderr.contains("wr0ng"), "{wrong:?}");
    assert!(!stage.path(".docker/config.json").exists(), "nothing is stored");
    for input in ["", "\n", "a\nb\n"] {
        let end = stage.run_with(login, input).await;
        assert_eq!(end.code, 2, "{input:?}: {end:?}");
    }

    let end = stage.run_with(login, "s3cret\r\n").await;
    assert_eq!(end.code, 0, "{end:?}");
    assert!(end.stdout.contains(".docker/config.json") && end.stdout.contains("unencrypted"), "{end:?}");
    assert!(!format!("{end:?}").contains("s3cret"), "{end:?}");
    let stored = stage.path(".docker/config.json");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&stored).expect("it exists").permissions().mode() & 0o777, 0o600);
    }
    let image = "secure.example.com/shop/web:1.4.2";
    assert_eq!(stage.run(&["digest", image]).await.stdout.trim_end(), stage.image.digest());

    let end = stage.run(&["logout", SECURE]).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert!(!std::fs::read_to_string(&stored).expect("it exists").contains(SECURE));
    assert_eq!(stage.run(&["digest", image]).await.code, 7);
    let again = stage.run(&["logout", SECURE]).await;
    assert!(again.code == 0 && again.stdout.contains("no login"), "{again:?}");
    // Without a login, those that are given on the command line or in a file.
    for given in [&["--creds", "secure.example.com=ci:s3cret"], &["--authfile", "auth.json"]] {
        let end = stage.run(&[&["digest", image], &given[..]].concat()).await;
        assert_eq!(end.stdout.trim_end(), stage.image.digest(), "{end:?}");
    }
}

#[tokio::test]
async fn copies_under_several_names() {
    let stage = Stage::new().await;
    let digest = stage.image.digest().to_owned();
    let end = stage
        .run(&[
            "copy",
            IMAGE,
            "dst.example.com/shop/web",
            "--as",
            "1.4",
            "--as",
            "1",
            "--as",
            "mirror/web:1.4",
        ])
        .await;
    assert_eq!(end.code, 0, "{end:?}");
    let named =
        |tags: &[&str]| tags.iter().map(|tag| ((*tag).to_owned(), digest.clone())).collect::<Vec<_>>();
    // The tag of the source is not used.
    assert_eq!(stage.tags(DESTINATION, "shop/web"), named(&["1", "1.4"]));
    assert_eq!(stage.tags(DESTINATION, "mirror/web"), named(&["1.4"]));
    for repository in ["shop/web", "mirror/web"] {
        let line = format!("dst.example.com/{repository}@{digest}");
        assert_eq!(end.stdout.lines().filter(|printed| *printed == line).count(), 1, "{end:?}");
    }
    // In addition to the tag of DST, and in a layout.
    let end = stage.run(&["copy", IMAGE, "dst.example.com/shop/api:2", "--as", "stable"]).await;
    assert_eq!((end.code, stage.tags(DESTINATION, "shop/api")), (0, named(&["2", "stable"])), "{end:?}");
    let end = stage.run(&["copy", IMAGE, "oci:named", "--as", "b", "--as", "a"]).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert_eq!(stage.run(&["ls", "oci:named"]).await.stdout, "a\nb\n");
    for (arguments, part) in [
        (&["copy", IMAGE, "oci:x", "--as", "shop/web:1"][..], "--as NAME:TAG requires a registry"),
        (&["copy", "--all-tags", "src.example.com/shop/web", "dst.example.com/x", "--as", "1"], "--as"),
        (&["copy", IMAGE, "dst.example.com/x", "--as", "not a tag"], "--as"),
        (&["copy", IMAGE, "dst.example.com/x", "--as", "Upper/Case:1"], "lower case"),
    ] {
        let end = stage.run(arguments).await;
        assert!(end.code == 2 && end.stderr.contains(part), "{arguments:?}: {end:?}");
    }
}

impl Stage {
    /// Writes the plan of a copy to a file.
    async fn plan(&self, file: &str, arguments: &[&str]) -> Value {
        let end = self.run(&[&["copy", "--plan", "--output", "json"], arguments].concat()).await;
        assert_eq!(end.code, 0, "{end:?}");
        std::fs::write(self.path(file), &end.stdout).expect("it is written");
        let line = end.stdout.lines().last().expect("a result");
        serde_json::from_str::<Value>(line).expect("it is JSON")["data"].take()
    }
}

#[tokio::test]
async fn applies_a_plan_exactly_or_refuses_it() {
    let stage = Stage::new().await;
    let digest = stage.image.digest().to_owned();
    let other = ImageBuilder::new().layer([("app", "other")]).build();
    let apply = async |file: &str| stage.run(&["copy", "--apply", file]).await;

    stage.plan("one.json", &[IMAGE, "dst.example.com/shop/one:1", "--as", "2"]).await;
    for _ in 0..2 {
        let end = apply("one.json").await;
        assert_eq!(end.code, 0, "{end:?}");
        assert!(end.stdout.contains(&format!("dst.example.com/shop/one@{digest}")), "{end:?}");
    }
    let tags = stage.tags(DESTINATION, "shop/one");
    assert_eq!(tags, [("1".to_owned(), digest.clone()), ("2".to_owned(), digest.clone())]);

    // Selected platforms, and a layout as source.
    let plan =
        stage.plan("arm.json", &["--platform", "linux/arm64", IMAGE, "dst.example.com/shop/arm:1"]).await;
    let end = apply("arm.json").await;
    assert_eq!(end.code, 0, "{end:?}");
    assert_eq!(stage.tags(DESTINATION, "shop/arm")[0].1, plan["images"][0]["digest"]);
    assert_eq!(stage.run(&["copy", IMAGE, "oci:web"]).await.code, 0);
    stage.plan("layout.json", &["oci:web", "dst.example.com/shop/layout:1"]).await;
    let end = apply("layout.json").await;
    assert_eq!((end.code, &stage.tags(DESTINATION, "shop/layout")[0].1), (0, &digest), "{end:?}");

    // The destination's tag has moved since.
    stage.plan("moved.json", &[IMAGE, "dst.example.com/shop/moved:1"]).await;
    stage.sandbox.registry(DESTINATION).push(&other, "shop/moved", "1");
    let end = apply("moved.json").await;
    assert_eq!(end.code, 8, "{end:?}");
    assert!(end.stderr.contains("create a new plan"), "{end:?}");
    assert_eq!(stage.tags(DESTINATION, "shop/moved")[0].1, other.digest());

    // The source's tag has moved since, or was deleted.
    stage.plan("stale.json", &[IMAGE, "dst.example.com/shop/stale:1"]).await;
    stage.sandbox.registry(SOURCE).push(&other, "shop/web", "1.4.2");
    let end = apply("stale.json").await;
    assert_eq!(end.code, 8, "{end:?}");
    assert!(end.stderr.contains("1.4.2 of src.example.com/shop/web now points to"), "{end:?}");
    assert!(stage.tags(DESTINATION, "shop/stale").is_empty());

    std::fs::write(stage.path("nonsense.json"), "{}").expect("it is written");
    for (arguments, part) in [
        (&["copy", "--apply", "absent.json"][..], "absent.json"),
        (&["copy", "--apply", "nonsense.json"], "contains 0 plans"),
        (&["copy", "--apply", "one.json", IMAGE, "dst.example.com/x:1"], "--apply"),
        (&["copy", "--apply", "one.json", "--no-referrers"], "--no-referrers has no effect with --apply"),
        (&["copy", IMAGE], "DST"),
    ] {
        let end = stage.run(arguments).await;
        assert!(end.code == 2 && end.stderr.contains(part), "{arguments:?}: {end:?}");
    }
}

#[tokio::test]
async fn verbose_logs_operations_and_requests() {
    let stage = Stage::new().await;
    let image = "secure.example.com/shop/web:1.4.2";
    let to = "dst.example.com/shop/web";
    for (flags, has_operations, has_requests) in [
        (&[][..], false, false),
        (&["-v"], true, false),
        (&["-vv"], true, true),
        (&["--verbose"], true, false),
    ] {
        let login = ["--creds", "secure.example.com=ci:s3cret"];
        let end = stage.run(&[&["copy", image, to], flags, &login].concat()).await;
        assert_eq!(end.code, 0, "{end:?}");
        assert_eq!(end.stderr.contains("copy_image"), has_operations, "{flags:?}: {end:?}");
        assert_eq!(end.stderr.contains("registry_request"), has_requests, "{flags:?}: {end:?}");
        assert!(!end.stderr.contains("s3cret"), "{end:?}");
    }
}

/// Labels, media types and the names in a layout are written by whoever built the image.
#[tokio::test]
async fn escapes_what_an_image_and_a_layout_contain() {
    const HOSTILE: &str = "\r::add-mask::a\n::set-output name=digest::sha256:0\u{2028}::group::c ##[add-path]/tmp \
        ##vso[task.complete]c \u{9b}2J\u{1b}]0;owned\u{7}\u{202e} hunter-of-labels\nerror: nothing is wrong";
    let stage = Stage::new().await;
    let hostile = ImageBuilder::new()
        .layer([("app", "hello")])
        .label("org.opencontainers.image.title", HOSTILE)
        .label(HOSTILE, "value")
        .build();
    stage.sandbox.registry(SOURCE).push(&hostile, "shop/web", "6.6.6");
    let image = "src.example.com/shop/web:6.6.6";
    assert_eq!(stage.run(&["copy", image, "oci:layout:6.6.6"]).await.code, 0);
    let index = stage.path("layout/index.json");
    let named = std::fs::read_to_string(&index).expect("an index");
    let quoted = serde_json::to_string(HOSTILE).expect("JSON");
    assert!(named.contains("\"6.6.6\""), "{named}");
    std::fs::write(&index, named.replace("\"6.6.6\"", &quoted)).expect("it is written");
    for output in ["lines", "json"] {
        for arguments in [
            &["inspect", image][..],
            &["inspect", "oci:layout"],
            &["ls", "oci:layout"],
            &["digest", "oci:layout:6.6.6"],
            &["copy", "oci:layout:6.6.6", "dst.example.com/shop/web:6.6.6"],
        ] {
            let end = stage.run(&[arguments, &["--output", output]].concat()).await;
            for printed in [&end.stdout, &end.stderr] {
                console::assert_inert(printed);
                assert!(!printed.lines().any(|line| line == "error: nothing is wrong"), "{printed}");
            }
            if arguments[0] != "copy" {
                assert!(format!("{end:?}").contains("hunter-of-labels"), "{arguments:?}: {end:?}");
            }
        }
    }
}
