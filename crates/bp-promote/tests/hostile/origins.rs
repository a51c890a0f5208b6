//! Credentials are sent only to the registry that they are for.

use std::{pin::Pin, time::Duration};

use bp_artifact::{
    Digest,
    error::{Classified as _, chain},
};
use bp_promote::{
    Journal, RegistryClient,
    content::{Descriptor, Reference},
    registry::{Login, Logins, RegistryError, RepositoryClient},
    store::BlobStream,
};
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};

use crate::net::*;

const HOST: &str = "registry.example.com";
const PASSWORD: &str = "canary-password";

fn login() -> Logins {
    Logins::new().with(HOST.parse().unwrap(), Login::password("canary", PASSWORD))
}

fn repository(client: &RegistryClient) -> RepositoryClient {
    client.repository(&format!("{HOST}/shop/web").parse().unwrap())
}

fn tag() -> Reference {
    Reference::Tag("v1".parse().unwrap())
}

/// A Basic challenge, unless the request has a login.
fn basic(seen: &RecordedRequest) -> Option<http::Response<bp_promote::registry::Body>> {
    let challenge = [("www-authenticate", "Basic realm=\"r\"")];
    seen.authorization.is_none().then(|| answer(401, &challenge, ""))
}

async fn read(
    repository: &RepositoryClient,
    blob: &Descriptor,
) -> Result<Vec<u8>, bp_promote::store::StoreError> {
    let stream = repository.blob(blob).await.map_err(bp_promote::store::StoreError::Registry)?;
    Ok(stream.try_collect::<Vec<Bytes>>().await?.concat())
}

#[tokio::test(start_paused = true)]
async fn sends_no_login_after_a_redirect_to_another_origin() {
    // The object store redirects within its own origin, and once back to the registry.
    for back in ["https://cdn.example.net/2", "https://registry.example.com/stored/2"] {
        let blob = Descriptor::of("a/b", Digest::sha256("blob"), 4);
        let (transport, log) = network(move |seen| match (seen.authority.as_str(), seen.path.as_str()) {
            ("registry.example.com:443", "/stored/2") | ("cdn.example.net:443", "/2") => {
                answer(200, &[], "blob")
            }
            ("registry.example.com:443", _) => {
                basic(seen).unwrap_or_else(|| redirect("https://cdn.example.net/1"))
            }
            ("cdn.example.net:443", "/1") => redirect(back),
            _ => missing(),
        });
        let client = builder(transport).credentials(login()).build().unwrap();
        assert_eq!(read(&repository(&client), &blob).await.unwrap(), b"blob");
        let seen = log.all();
        assert!(seen[1].contains_secret(PASSWORD), "the registry itself receives the login");
        let after: Vec<_> = seen.iter().skip(2).collect();
        assert_eq!(after.len(), 2, "{back}");
        for seen in after {
            assert_eq!(seen.authorization, None, "{} {}", seen.origin(), seen.path);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ignores_challenges_of_redirect_targets() {
    for challenge in ["Bearer realm=\"https://cdn.example.net/token\",service=\"cdn\"", "Basic realm=\"cdn\""]
    {
        for first_basic in [true, false] {
            let (transport, log) = network(move |seen| match seen.authority.as_str() {
                "registry.example.com:443" => {
                    let asked = if first_basic { basic(seen) } else { None };
                    asked.unwrap_or_else(|| redirect("https://cdn.example.net/1"))
                }
                "cdn.example.net:443" if seen.path == "/token" => answer(200, &[], r#"{"token":"t"}"#),
                _ => answer(401, &[("www-authenticate", challenge)], ""),
            });
            let client = builder(transport).credentials(login()).build().unwrap();
            let blob = Descriptor::of("a/b", Digest::sha256("blob"), 4);
            let error = read(&repository(&client), &blob).await.unwrap_err().to_string();
            assert!(error.contains("https://cdn.example.net"), "{error}");
            for seen in log.to("cdn.example.net") {
                assert!(!seen.contains_secret(PASSWORD) && seen.authorization.is_none(), "{seen:?}");
                assert_ne!(seen.path, "/token", "no token is requested");
            }
            assert!(log.count() <= 4, "it is not retried: {}", log.count());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_list_pages_at_another_host() {
    // A list that continues at another host is rejected; an `http://` URL of the registry's own host is not.
    for (next, is_followed) in [
        ("/v2/shop/web/tags/list?last=a", true),
        ("https://REGISTRY.example.com:443/v2/shop/web/tags/list?last=a", true),
        ("http://registry.example.com/v2/shop/web/tags/list?last=a", true),
        ("https://other.example.net/v2/shop/web/tags/list?last=a", false),
        ("https://registry.example.com:8443/v2/shop/web/tags/list?last=a", false),
        ("https://registry.example.com.example.net/v2/shop/web/tags/list?last=a", false),
        ("https://canary:x@registry.example.com/v2/shop/web/tags/list?last=a", false),
        ("ftp://registry.example.com/v2/shop/web/tags/list?last=a", false),
        ("https://[/", false),
    ] {
        let (transport, log) = network(move |seen| {
            let link = format!("<{next}>; rel=\"next\"");
            match (basic(seen), seen.query.contains("last")) {
                (Some(asked), _) => asked,
                (None, true) => answer(200, &[], r#"{"tags":["b"]}"#),
                (None, false) => answer(200, &[("link", &link)], r#"{"tags":["a"]}"#),
            }
        });
        let client = builder(transport).credentials(login()).build().unwrap();
        let tags = repository(&client).tags().await;
        if is_followed {
            assert_eq!(tags.unwrap().len(), 2, "{next}")
        } else {
            let error = tags.unwrap_err().to_string();
            assert!(error.contains("next page"), "{next}: {error}");
            assert!(!error.contains("canary"), "{error}");
            assert_eq!(log.count(), 2, "{next}: it is not retried");
        }
        for seen in log.all() {
            assert!(
                seen.origin() == "https://registry.example.com:443" || !seen.contains_secret(PASSWORD),
                "{seen:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn follows_the_redirect_of_an_upload_start() {
    for (target, session) in [
        ("https://uploads.example.net/start/", "https://uploads.example.net/start/1"),
        ("/v2/shop/web/other/uploads/", "https://registry.example.com/v2/shop/web/other/uploads/1"),
    ] {
        let (transport, log) = network(move |seen| {
            let own = seen.origin() == "https://registry.example.com:443";
            match (seen.method.as_str(), seen.path.ends_with("/blobs/uploads/")) {
                _ if own && seen.authorization.is_none() => basic(seen).unwrap(),
                ("POST", true) => redirect(target),
                // Relative to the URL that responds.
                ("POST", false) => answer(202, &[("location", "1")], ""),
                ("PUT", _) => answer(201, &[], ""),
                _ => missing(),
            }
        });
        let client = builder(transport).credentials(login()).build().unwrap();
        let blob = Descriptor::of("a/b", Digest::sha256("blob"), 4);
        let bytes = || -> BlobStream { Box::pin(stream::once(async { Ok(Bytes::from("blob")) })) };
        let source: Pin<Box<_>> = Box::pin(async { Ok(bytes()) });
        repository(&client).put_blob(&blob, None, source).await.unwrap();
        let put = log.all().pop().unwrap();
        assert_eq!(format!("https://{}{}", put.authority.trim_end_matches(":443"), put.path), session);
        for seen in log.to("uploads.example.net") {
            assert!(!seen.contains_secret(PASSWORD) && seen.authorization.is_none(), "{seen:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_in_the_middle_of_an_upload_is_an_error() {
    // In one request, and in several ones with a journal.
    for (method, journal) in [("PUT", false), ("PATCH", true)] {
        for target in ["https://uploads.example.net/u/1", "https://registry.example.com/u/2", "/u/2"] {
            let (transport, log) = network(move |seen| {
                let own = seen.origin() == "https://registry.example.com:443";
                match seen.method.as_str() {
                    _ if own && seen.authorization.is_none() => basic(seen).unwrap(),
                    "POST" => answer(202, &[("location", "/u/1")], ""),
                    found if found == method && seen.path == "/u/1" => redirect(target),
                    "PATCH" => answer(202, &[("location", "/u/1")], ""),
                    "PUT" => answer(201, &[], ""),
                    _ => missing(),
                }
            });
            let directory = tempfile::tempdir().unwrap();
            let mut builder = builder(transport).credentials(login());
            if journal {
                let journal = Journal::open(directory.path().join("journal")).unwrap();
                builder = builder.journal(journal.resume_from(1));
            }
            let client = builder.build().unwrap();
            let blob = Descriptor::of("a/b", Digest::sha256("blob"), 4);
            let bytes = || -> BlobStream { Box::pin(stream::once(async { Ok(Bytes::from("blob")) })) };
            let source: Pin<Box<_>> = Box::pin(async { Ok(bytes()) });
            let error = repository(&client).put_blob(&blob, None, source).await.unwrap_err();
            let said = chain(&error);
            assert!(said.contains("redirects an upload in progress"), "{method} {target}: {said}");
            assert!(!error.is_retryable(), "{method} {target}");
            // Neither the login nor the content is sent on.
            assert!(log.to("uploads.example.net").is_empty(), "{method} {target}");
            assert!(!log.all().iter().any(|seen| seen.path == "/u/2"), "{method} {target}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sends_no_login_to_an_upload_at_another_host() {
    for (location, is_own) in [
        ("https://uploads.example.net/u/1?state=x", false),
        ("https://registry.example.com:8443/u/1", false),
        ("http://registry.example.com/u/1", true),
        ("/u/1", true),
    ] {
        for journal in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let (transport, log) = network(move |seen| {
                let own = seen.origin() == "https://registry.example.com:443";
                match seen.method.as_str() {
                    _ if own && seen.authorization.is_none() => basic(seen).unwrap(),
                    "POST" => answer(202, &[("location", location)], ""),
                    "PATCH" => answer(202, &[("location", &seen.path)], ""),
                    "PUT" => answer(201, &[], ""),
                    _ => missing(),
                }
            });
            let mut builder = builder(transport).credentials(login());
            if journal {
                builder =
                    builder.journal(Journal::open(directory.path().join("journal")).unwrap().resume_from(1));
            }
            let client = builder.build().unwrap();
            let blob = Descriptor::of("a/b", Digest::sha256("blob"), 4);
            let bytes = || -> BlobStream { Box::pin(stream::once(async { Ok(Bytes::from("blob")) })) };
            let source: Pin<Box<_>> = Box::pin(async { Ok(bytes()) });
            repository(&client).put_blob(&blob, None, source).await.unwrap();
            for seen in log.all() {
                let own = seen.origin() == "https://registry.example.com:443";
                assert!(
                    own || !seen.contains_secret(PASSWORD) && seen.authorization.is_none(),
                    "{location}: {seen:?}"
                );
                assert!(seen.scheme == "https", "{location}: nothing is sent in clear text");
            }
            let last = log.all().pop().unwrap();
            assert_eq!((last.method.as_str(), last.authorization.is_some()), ("PUT", is_own), "{location}");
        }
    }
}

/// Reads from a registry whose challenge has this realm; returns the result and the requests.
async fn challenged(registry: &str, login: Login, realm: &str) -> (Result<(), RegistryError>, Log) {
    let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
    let (transport, log) = network(move |seen| match (seen.path.as_str(), &seen.authorization) {
        ("/token", _) => answer(200, &[], r#"{"token":"granted","expires_in":300}"#),
        (_, Some(bearer)) if bearer == "Bearer granted" => answer(200, &[], r#"{"mediaType":"a/b"}"#),
        _ => answer(401, &[("www-authenticate", &challenge)], ""),
    });
    let logins = Logins::new().with(registry.parse().unwrap(), login);
    let client = builder(transport).credentials(logins).build().unwrap();
    let repository = client.repository(&format!("{registry}/shop/web").parse().unwrap());
    (repository.manifest(&tag()).await.map(|_| ()), log)
}

#[tokio::test(start_paused = true)]
async fn sends_the_login_only_to_safe_realms() {
    const PUBLIC: &str = "registry.example.com";
    const LOOPBACK: &str = "127.0.0.1:5000";
    for (registry, realm, is_asked) in [
        // Like Docker Hub.
        (PUBLIC, "https://auth.example.net/token", true),
        (PUBLIC, "https://registry.example.com/token", true),
        // Behind a TLS-terminating proxy: the registry's own origin, over HTTPS.
        (PUBLIC, "http://registry.example.com/token", true),
        (PUBLIC, "/token", true),
        (PUBLIC, "http://auth.example.net/token", false),
        (PUBLIC, "http://registry.example.com:8080/token", false),
        (PUBLIC, "https://someone:else@auth.example.net/token", false),
        (PUBLIC, "https://localhost/token", false),
        (PUBLIC, "https://LOCALHOST./token", false),
        (PUBLIC, "https://metadata.localhost/token", false),
        (PUBLIC, "https://127.0.0.1:8443/token", false),
        (PUBLIC, "https://127.9.9.9/token", false),
        (PUBLIC, "https://2130706433/token", false),
        (PUBLIC, "https://0x7f.1/token", false),
        (PUBLIC, "https://0.0.0.0/token", false),
        (PUBLIC, "https://169.254.169.254/token", false),
        (PUBLIC, "https://[::1]/token", false),
        (PUBLIC, "https://[::]/token", false),
        (PUBLIC, "https://[::ffff:127.0.0.1]/token", false),
        (PUBLIC, "https://[::ffff:169.254.170.2]/token", false),
        (PUBLIC, "https://[64:ff9b::7f00:1]/token", false),
        (PUBLIC, "https://[fe80::1]/token", false),
        (PUBLIC, "https://[febf::1]/token", false),
        (PUBLIC, "https://[2001:db8::1]/token", true),
        (PUBLIC, "ftp://auth.example.net/token", false),
        (PUBLIC, "https://[/token", false),
        (PUBLIC, "data:text/plain,token", false),
        (LOOPBACK, "http://127.0.0.1:5001/token", true),
        (LOOPBACK, "http://localhost:5001/token", true),
        (LOOPBACK, "https://auth.example.net/token", true),
        (LOOPBACK, "http://someone:else@127.0.0.1:5001/token", false),
    ] {
        for login in [Login::password("canary", PASSWORD), Login::identity_token(PASSWORD)] {
            let (result, log) = challenged(registry, login, realm).await;
            let with_login: Vec<RecordedRequest> =
                log.all().into_iter().filter(|seen| seen.contains_secret(PASSWORD)).collect();
            if is_asked {
                result.unwrap_or_else(|error| panic!("{realm}: {error}"));
                assert_eq!(with_login.len(), 1, "{realm}");
            } else {
                let error = result.unwrap_err().to_string();
                assert!(error.contains("realm") && error.contains(registry), "{realm}: {error}");
                assert!(!error.contains("else@") && !error.contains(PASSWORD), "{error}");
                assert_eq!(log.count(), 1, "{realm}: no token is requested");
            }
            let clear = with_login.iter().any(|seen| seen.scheme == "http");
            assert!(!clear || registry == LOOPBACK, "{realm}: in clear text");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sends_no_login_along_a_redirect_of_the_token_service() {
    for target in ["https://elsewhere.example.net/token", "http://auth.example.net:8080/token"] {
        for login in [Login::password("canary", PASSWORD), Login::identity_token(PASSWORD)] {
            let (transport, log) = network(move |seen| match seen.authority.as_str() {
                "registry.example.com:443" => answer(
                    401,
                    &[("www-authenticate", "Bearer realm=\"https://auth.example.net/token\"")],
                    "",
                ),
                "auth.example.net:443" => redirect(target),
                _ => answer(200, &[], r#"{"token":"t"}"#),
            });
            let logins = Logins::new().with(HOST.parse().unwrap(), login);
            let client = builder(transport).credentials(logins).build().unwrap();
            let error = repository(&client).manifest(&tag()).await.unwrap_err().to_string();
            assert!(error.contains("redirect"), "{error}");
            for seen in log.all() {
                let is_service = seen.origin() == "https://auth.example.net:443";
                assert!(is_service || !seen.contains_secret(PASSWORD), "{seen:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn follows_token_redirects_within_the_origin_or_without_a_login() {
    for (login, target) in [
        (Some(Login::password("canary", PASSWORD)), "/v2/token"),
        (None, "https://elsewhere.example.net/v2/token"),
    ] {
        let (transport, _) = network(move |seen| match (seen.path.as_str(), &seen.authorization) {
            ("/token", _) => redirect(target),
            ("/v2/token", _) => answer(200, &[], r#"{"access_token":"granted"}"#),
            (_, Some(_)) => answer(200, &[], r#"{"mediaType":"a/b"}"#),
            _ => answer(401, &[("www-authenticate", "Bearer realm=\"https://auth.example.net/token\"")], ""),
        });
        let logins = match login {
            Some(login) => Logins::new().with(HOST.parse().unwrap(), login),
            None => Logins::new(),
        };
        let client = builder(transport).credentials(logins).build().unwrap();
        repository(&client).manifest(&tag()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn sends_no_ecr_password_to_the_object_store() {
    const ECR: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";
    let (transport, log) = network(|seen| match seen.path.as_str() {
        "/hop/3" => answer(200, &[], "blob"),
        "/hop/2" => redirect("/hop/3"),
        "/hop/1" => redirect("https://store.example.net/hop/2"),
        _ => redirect("https://store.example.net/hop/1"),
    });
    let logins = Logins::new().with(ECR.parse().unwrap(), Login::password("AWS", PASSWORD));
    let client = builder(transport).credentials(logins).idle_timeout(Duration::from_secs(5)).build().unwrap();
    let repository = client.repository(&format!("{ECR}/shop/web").parse().unwrap());
    let blob = Descriptor::of("a/b", Digest::sha256("blob"), 4);
    assert_eq!(read(&repository, &blob).await.unwrap(), b"blob");
    let seen = log.all();
    let with = seen.iter().map(|seen| seen.authorization.is_some()).collect::<Vec<_>>();
    assert_eq!(with, [true, false, false, false], "no ping, and the login stays at ECR");
}
