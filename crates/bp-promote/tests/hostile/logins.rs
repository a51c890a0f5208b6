//! Logins and challenges as real registries and container tools have them.

use std::{error::Error as _, path::PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_promote::registry::{AuthFile, Login, Logins, RegistryError};
use serde_json::{Value, json};

use crate::{net::*, source::*};

const MANIFEST: &str = r#"{"mediaType":"a/b"}"#;

fn login(login: Login) -> Logins {
    Logins::new().with(SRC.parse().unwrap(), login)
}

fn basic(user: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:pw")))
}

/// A file of logins.
fn file(document: Value) -> (tempfile::TempDir, AuthFile) {
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("auth.json");
    std::fs::write(&path, document.to_string()).unwrap();
    (directory, AuthFile::at(path))
}

fn entry(user: &str) -> Value {
    json!({ "auth": BASE64_STANDARD.encode(format!("{user}:pw")) })
}

#[tokio::test(start_paused = true)]
async fn requests_tokens_for_the_scope_of_the_challenge() {
    // A proxy that rewrites paths, and a registry with scopes of its own.
    for asked in ["repository:proxied/shop/web:pull", "aws"] {
        let (transport, log) = network(move |seen| {
            let challenge = format!("Bearer realm=\"/token\",service=\"s\",scope=\"{asked}\"");
            let is_asked =
                seen.query.contains(&format!("scope={}", asked.replace(':', "%3A").replace('/', "%2F")));
            match (seen.path.as_str(), seen.authorization.as_deref()) {
                ("/token", _) if is_asked => answer(200, &[], r#"{"token":"right"}"#),
                ("/token", _) => answer(200, &[], r#"{"token":"wrong"}"#),
                (_, Some("Bearer right")) => answer(200, &[], MANIFEST),
                _ => answer(401, &[("www-authenticate", &challenge)], ""),
            }
        });
        let client = builder(transport).credentials(login(Login::password("ci", "pw"))).build().unwrap();
        for _ in 0..3 {
            of(&client, SRC).manifest(&tag()).await.unwrap();
        }
        let tokens = log.all().iter().filter(|seen| seen.path == "/token").count();
        assert_eq!(tokens, 1, "{asked}");
        // For another repository, the challenge is known, but not its scope.
        client.repository(&format!("{SRC}/shop/api").parse().unwrap()).manifest(&tag()).await.unwrap();
        let tokens = log.all().iter().filter(|seen| seen.path == "/token").count();
        assert_eq!(tokens, 3, "{asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_one_of_several_challenges_in_a_header() {
    for (challenge, expected) in [
        ("Negotiate, Basic realm=\"r\"", basic("ci")),
        ("Negotiate YII=, NTLM, basic realm=\"r, s\"", basic("ci")),
        ("Basic realm=\"r\", Bearer realm=\"/token\",service=\"s\"", "Bearer t".to_owned()),
        ("Bearer realm=\"/token\", Basic realm=\"r\"", "Bearer t".to_owned()),
    ] {
        let accepted = expected.clone();
        let (transport, _) = network(move |seen| match seen.path.as_str() {
            "/token" => answer(200, &[], r#"{"token":"t"}"#),
            _ if seen.authorization.as_deref() == Some(&accepted) => answer(200, &[], MANIFEST),
            _ => answer(401, &[("www-authenticate", challenge)], ""),
        });
        let client = builder(transport).credentials(login(Login::password("ci", "pw"))).build().unwrap();
        let read = of(&client, SRC).manifest(&tag()).await;
        assert!(read.is_ok(), "{challenge}: {read:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_service_without_post_is_asked_with_the_password() {
    for status in [400, 401, 404, 405] {
        let (transport, log) = network(move |seen| match (seen.path.as_str(), seen.method.as_str()) {
            ("/token", "POST") => answer(status, &[], ""),
            ("/token", _) if seen.authorization.as_deref() == Some(&basic("ci")) => {
                answer(200, &[], r#"{"token":"t"}"#)
            }
            (path, _) if path != "/token" && seen.authorization.is_some() => answer(200, &[], MANIFEST),
            _ => answer(401, &[("www-authenticate", "Bearer realm=\"/token\"")], ""),
        });
        let both = Login::identity_token("refresh").or_password("ci", "pw");
        let client = builder(transport.clone()).credentials(login(both)).build().unwrap();
        of(&client, SRC).manifest(&tag()).await.unwrap_or_else(|error| panic!("{status}: {error}"));
        assert!(log.count() <= 4, "{status}: {}", log.count());
        let alone = login(Login::identity_token("refresh"));
        let client = builder(transport).credentials(alone).build().unwrap();
        assert!(of(&client, SRC).manifest(&tag()).await.is_err(), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn sends_access_tokens_of_a_file_as_they_are() {
    let (transport, log) = network(|seen| match seen.authorization.as_deref() {
        Some("Bearer access") => answer(200, &[], MANIFEST),
        _ => answer(401, &[("www-authenticate", "Bearer realm=\"/token\"")], ""),
    });
    let (_directory, file) = file(json!({ "auths": { SRC: { "registrytoken": "access" } } }));
    let client = builder(transport).credentials(file).build().unwrap();
    of(&client, SRC).manifest(&tag()).await.unwrap();
    assert!(log.all().iter().all(|seen| seen.path != "/token"));
}

#[tokio::test(start_paused = true)]
async fn a_login_for_a_path_is_sent_for_that_path_only() {
    let (transport, log) = network(|seen| match seen.authorization {
        Some(_) => answer(200, &[], MANIFEST),
        None => answer(401, &[("www-authenticate", "Basic realm=\"r\"")], ""),
    });
    let auths = json!({ "auths": {
        SRC: entry("host"),
        format!("{SRC}/shop"): entry("namespace"),
        format!("{SRC}/shop/web"): entry("repository"),
        format!("{SRC}/secret"): entry("other"),
    }});
    let (_directory, file) = file(auths);
    let client = builder(transport).credentials(file).build().unwrap();
    for (path, user) in [("shop/web", "repository"), ("shop/api", "namespace"), ("team/web", "host")] {
        let before = log.count();
        client.repository(&format!("{SRC}/{path}").parse().unwrap()).manifest(&tag()).await.unwrap();
        let sent: Vec<_> = log.all().into_iter().skip(before).filter_map(|seen| seen.authorization).collect();
        assert_eq!(sent, [basic(user)], "{path}");
    }
}

/// A registry with anonymous tokens, which reads public images with them.
fn public() -> (bp_promote::registry::Transport, Log) {
    network(|seen| match (seen.path.as_str(), seen.authorization.as_deref()) {
        ("/token", None) => answer(200, &[], r#"{"token":"anonymous"}"#),
        ("/token", Some(_)) => answer(200, &[], r#"{"token":"ci"}"#),
        (path, Some("Bearer anonymous")) if path.contains("private") => answer(403, &[], ""),
        (_, Some(_)) => answer(200, &[], MANIFEST),
        _ => answer(401, &[("www-authenticate", "Bearer realm=\"/token\"")], ""),
    })
}

#[tokio::test(start_paused = true)]
async fn a_missing_default_helper_does_not_prevent_anonymous_access() {
    let missing = || file(json!({ "credsStore": "absent" }));
    let damaged = || {
        let (directory, file) = file(Value::Null);
        std::fs::write(file.path(), "{").unwrap();
        (directory, file)
    };
    let directory = || {
        let (directory, file) = file(Value::Null);
        std::fs::remove_file(file.path()).unwrap();
        std::fs::create_dir(file.path()).unwrap();
        (directory, file)
    };
    for ((_directory, file), reason) in [
        (missing(), "docker-credential-absent is not installed"),
        (damaged(), "invalid configuration"),
        (directory(), "cannot be read"),
    ] {
        let path = file.path().display().to_string();
        let client = builder(public().0).credentials(file).build().unwrap();
        of(&client, SRC).manifest(&tag()).await.unwrap_or_else(|error| panic!("{reason}: {error}"));
        let private = client.repository(&format!("{SRC}/private").parse().unwrap());
        let error = private.manifest(&tag()).await.unwrap_err();
        assert!(matches!(error, RegistryError::Credentials { .. }), "{error:?}");
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains(reason) && cause.contains(&path), "{cause}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_helper_of_the_registry_itself_is_an_error() {
    let (_directory, file) = file(json!({ "credHelpers": { SRC: "absent" } }));
    let (transport, log) = public();
    let client = builder(transport).credentials(file).build().unwrap();
    let error = of(&client, SRC).manifest(&tag()).await.unwrap_err();
    assert!(error.source().unwrap().to_string().contains("docker-credential-absent"), "{error:?}");
    assert_eq!(log.count(), 1, "no anonymous token is requested");
    let other = client.repository(&"other.example.net/shop/web".parse().unwrap());
    other.manifest(&tag()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn checks_a_login_without_a_repository() {
    for (scheme, users) in
        [("Basic realm=\"r\"", ["ci", "wrong"]), ("Bearer realm=\"/token\"", ["ci", "wrong"])]
    {
        for user in users {
            let (transport, log) =
                network(move |seen| match (seen.path.as_str(), seen.authorization.as_deref()) {
                    ("/token", Some(sent)) if sent == basic("ci") => answer(200, &[], r#"{"token":"t"}"#),
                    ("/token", _) => answer(401, &[], ""),
                    ("/v2/", Some(sent)) if sent == basic("ci") || sent == "Bearer t" => {
                        answer(200, &[], "{}")
                    }
                    _ => answer(401, &[("www-authenticate", scheme)], ""),
                });
            let client = builder(transport).credentials(login(Login::password(user, "pw"))).build().unwrap();
            let checked = client.check_login(&SRC.parse().unwrap()).await;
            assert_eq!(checked.ok(), (user == "ci").then_some(true), "{scheme} {user}");
            assert!(log.all().iter().all(|seen| !seen.query.contains("scope")), "{scheme}");
        }
    }
    let (transport, _) = network(|_| answer(200, &[], "{}"));
    let client = builder(transport).credentials(login(Login::password("ci", "pw"))).build().unwrap();
    assert!(!client.check_login(&SRC.parse().unwrap()).await.unwrap(), "nothing is checked");
}

#[tokio::test(start_paused = true)]
async fn answers_challenges_in_every_spelling() {
    for (challenge, query) in [
        (r#"BEARER REALM="/token",SERVICE="s""#, "service=s"),
        (r#"bearer	realm="/token" , service="s""#, "service=s"),
        (r#"Bearer service="my registry", realm="/token""#, "service=my+registry"),
        (r#"Bearer realm=/token,service=s"#, "service=s"),
        (r#"Bearer realm="/token?account=x&service=inner""#, "account=x&service=inner"),
        (r#"Bearer realm="https://DEV.example.com:443/token?",service="s""#, "service=s"),
        (r#"Bearer realm="http://dev.example.com/token",service="s""#, "service=s"),
        (r#"Bearer realm="/token",service="s",error="insufficient_scope""#, "service=s"),
        (r#"Bearer realm="/token",service="s",scope="""#, "service=s"),
    ] {
        let (transport, log) = network(move |seen| match (seen.path.as_str(), &seen.authorization) {
            ("/token", Some(_)) => {
                answer(200, &[], r#"{"access_token":"t","issued_at":"2026-01-01T00:00:00Z"}"#)
            }
            (_, Some(sent)) if sent == "Bearer t" => answer(200, &[], MANIFEST),
            _ => answer(401, &[("www-authenticate", challenge)], "{}"),
        });
        let client = builder(transport).credentials(login(Login::password("ci", "pw"))).build().unwrap();
        let read = of(&client, SRC).manifest(&tag()).await;
        assert!(read.is_ok(), "{challenge}: {read:?}");
        let asked = log.all().into_iter().find(|seen| seen.path == "/token").unwrap();
        let scope = "scope=repository%3Ashop%2Fweb%3Apull";
        assert_eq!(asked.query, format!("{query}&{scope}"), "{challenge}");
        assert_eq!(asked.scheme, "https", "{challenge}");
    }
}

/// A registry that creates a repository when a token for pushes is requested, and rejects any other access until then.
#[tokio::test(start_paused = true)]
async fn a_destination_is_accessed_with_tokens_for_pushes() {
    let (transport, log) = network(|seen| {
        if seen.authority.starts_with(DST) {
            return match (seen.path.as_str(), seen.authorization.as_deref()) {
                ("/token", _) if seen.query.contains("push") => answer(200, &[], r#"{"token":"push"}"#),
                ("/token", _) => answer(200, &[], r#"{"token":"nothing"}"#),
                (_, Some("Bearer push")) => accept_all(seen),
                _ => answer(401, &[("www-authenticate", "Bearer realm=\"/token\",service=\"s\"")], ""),
            };
        }
        if seen.path.contains("/manifests/") { answer(200, &[], MANIFEST) } else { missing() }
    });
    let both = Logins::new().with(DST.parse().unwrap(), Login::password("ci", "pw"));
    let client = builder(transport).credentials(both).build().unwrap();
    promote(&client).await.unwrap();
    let tokens: Vec<_> = log.to(DST).into_iter().filter(|seen| seen.path == "/token").collect();
    assert_eq!(tokens.len(), 1, "one token for all requests");
}

/// A token service that denies the whole scope if the login may not push, as that of GHCR.
#[tokio::test(start_paused = true)]
async fn a_plan_needs_no_permission_to_push() {
    for has_login in [true, false] {
        let (transport, log) = network(|seen| {
            if seen.authority.starts_with(DST) {
                let denied = r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
                return match (seen.path.as_str(), seen.authorization.as_deref()) {
                    ("/token", _) if seen.query.contains("push") => answer(403, &[], denied),
                    ("/token", _) => answer(200, &[], r#"{"token":"pull"}"#),
                    (_, Some("Bearer pull")) if seen.method == "GET" || seen.method == "HEAD" => missing(),
                    (_, Some("Bearer pull")) => answer(403, &[], denied),
                    _ => answer(401, &[("www-authenticate", "Bearer realm=\"/token\",service=\"s\"")], ""),
                };
            }
            if seen.path.contains("/manifests/") { answer(200, &[], MANIFEST) } else { missing() }
        });
        let mut logins = Logins::new();
        if has_login {
            logins = logins.with(DST.parse().unwrap(), Login::password("ci", "pw"));
        }
        let client = builder(transport).credentials(logins).build().unwrap();
        let [from, to] = sides(&client);
        let plan = bp_promote::copy::plan(from, to, bp_promote::CopyOptions::default()).await.unwrap();
        assert_eq!(plan.found, None);
        let error = error_chain(&promote(&client).await.unwrap_err());
        assert!(error.contains("requested access to the resource is denied"), "{error}");
        assert!(log.count() < 40, "{}", log.count());
    }
}

#[tokio::test(start_paused = true)]
async fn states_why_a_token_service_refuses_a_login() {
    for body in [
        r#"{"details":"incorrect username or password"}"#,
        r#"{"error":"invalid_grant","error_description":"incorrect username or password"}"#,
        r#"{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}"#,
        r#"{"error":{"code":401,"message":"incorrect username or password"}}"#,
        "unauthorized: incorrect username or password\n",
    ] {
        let (transport, _) = network(move |seen| match seen.path.as_str() {
            "/token" => answer(401, &[], body),
            _ => answer(401, &[("www-authenticate", "Bearer realm=\"/token\"")], ""),
        });
        let client = builder(transport).credentials(login(Login::password("ci", "pw"))).build().unwrap();
        let error = error_chain(&of(&client, SRC).manifest(&tag()).await.unwrap_err());
        assert!(error.contains("incorrect username or password"), "{body}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn follows_redirects_of_manifest_pushes_without_the_login() {
    for (target, is_own) in
        [("https://dev.example.com/moved", true), ("https://cdn.example.net/moved", false)]
    {
        let (transport, log) = network(move |seen| match (seen.path.as_str(), &seen.authorization) {
            ("/moved", _) => answer(201, &[], ""),
            (_, Some(_)) if seen.method == "PUT" => redirect(target),
            _ => answer(401, &[("www-authenticate", "Basic realm=\"r\"")], ""),
        });
        let client = builder(transport).credentials(login(Login::password("ci", "pw"))).build().unwrap();
        let bytes = bytes::Bytes::from_static(MANIFEST.as_bytes());
        let manifest = bp_promote::content::Manifest::read(None, None, bytes.clone()).unwrap();
        // A push that no registry confirms with its digest is checked afterwards.
        let _ = of(&client, SRC).put_manifest(&tag(), &manifest).await;
        let moved = log.all().into_iter().find(|seen| seen.path == "/moved").expect("it is followed");
        assert_eq!((moved.method.as_str(), moved.body), ("PUT", bytes), "{target}");
        assert_eq!(moved.authorization.is_some(), is_own, "{target}");
    }
}
