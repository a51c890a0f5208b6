//! Redirects, addresses, pages and spellings of real registries and of proxies in front of them.

use std::{io, time::Duration};

use bp_artifact::{Digest, error::chain};
use bp_promote::{
    RegistryClient,
    content::{Descriptor, Manifest},
    registry::{Anonymous, Body, Login, Logins, Transport, transport},
    retry::RetryPolicy,
    store::BlobStream,
};
use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::{TryStreamExt as _, stream};
use http::{Request, Response};
use tower::ServiceExt as _;

use crate::{net::*, source::*};

const PASSWORD: &str = "canary-password";

fn login() -> Logins {
    Logins::new().with(SRC.parse().unwrap(), Login::password("ci", PASSWORD))
}

fn pushed() -> Manifest {
    Manifest::read(None, None, Bytes::from_static(br#"{"mediaType":"a/b"}"#)).unwrap()
}

/// A blob with its bytes.
fn blob() -> (Descriptor, BlobStream) {
    let bytes = stream::iter([Ok(Bytes::from_static(b"blob"))]);
    (Descriptor::of("a/b", Digest::sha256("blob"), 4), Box::pin(bytes))
}

async fn read(client: &RegistryClient, size: u64) -> Result<Vec<u8>, String> {
    let blob = Descriptor::of("a/b", Digest::sha256("0123456789"), size);
    let stream = of(client, SRC).blob(&blob).await.map_err(|error| chain(&error))?;
    let read = stream.try_collect::<Vec<Bytes>>().await.map_err(|error| chain(&error))?;
    Ok(read.concat())
}

#[tokio::test(start_paused = true)]
async fn lists_tags_without_a_page_size_if_it_is_rejected() {
    for (status, body) in
        [(400, r#"{"errors":[{"code":"PAGINATION_NUMBER_INVALID"}]}"#), (422, ""), (400, "<html>bad request")]
    {
        let (client, log) = client(move |seen| match seen.query.as_str() {
            "" => {
                answer(200, &[("link", "</v2/shop/web/tags/list?last=b>; rel=\"next\"")], r#"{"tags":["b"]}"#)
            }
            "last=b" => answer(200, &[], r#"{"tags":["c"]}"#),
            _ => answer(status, &[], body),
        });
        let tags = of(&client, SRC).tags().await.unwrap();
        assert_eq!(tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(), ["b", "c"], "{status}");
        assert_eq!(log.count(), 3, "{status}");
    }
    // Any other rejection, and one of a list without a size, is an error.
    let (client, log) = client(|_| answer(400, &[], ""));
    of(&client, SRC).tags().await.unwrap_err();
    assert_eq!(log.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_was_redirected_continues_there_without_the_login() {
    for link in ["</v2/mirror/web/tags/list?last=b>; rel=\"next\"", "<?last=b>; rel=\"next\""] {
        let (transport, log) = network(move |seen| match (seen.authority.as_str(), seen.query.as_str()) {
            ("mirror.example.net:443", "last=b") => answer(200, &[], r#"{"tags":["c"]}"#),
            ("mirror.example.net:443", _) => answer(200, &[("link", link)], r#"{"tags":["b"]}"#),
            _ if seen.authorization.is_none() => {
                answer(401, &[("www-authenticate", "Basic realm=\"r\"")], "")
            }
            _ => redirect("https://mirror.example.net/v2/mirror/web/tags/list?n=1000"),
        });
        let client = builder(transport).credentials(login()).build().unwrap();
        let tags = of(&client, SRC).tags().await.unwrap();
        assert_eq!(tags.len(), 2, "{link}");
        let mirror = log.to("mirror.example.net");
        assert_eq!(mirror.len(), 2, "{link}");
        assert!(mirror.iter().all(|seen| !seen.contains_secret(PASSWORD)), "{link}");
        assert!(mirror.iter().all(|seen| seen.path == "/v2/mirror/web/tags/list"), "{link}");
    }
    // But not at a third host.
    let (client, log) = client(|seen| match seen.authority.as_str() {
        "dev.example.com:443" => redirect("https://mirror.example.net/list"),
        _ => answer(200, &[], r#"{"tags":["b"]}"#),
    });
    assert!(of(&client, SRC).tags().await.is_err(), "{:?}", log.count());
}

#[tokio::test(start_paused = true)]
async fn follows_redirects_of_reads_with_every_status() {
    for status in [301, 302, 303, 307, 308] {
        for (target, seen_at) in [
            ("https://dev.example.com/stored?a=b%2Fc", "/stored"),
            ("/stored?a=b%2Fc", "/stored"),
            ("stored?a=b%2Fc", "/v2/shop/web/blobs/stored"),
            ("//dev.example.com/stored?a=b%2Fc", "/stored"),
            ("http://dev.example.com/stored?a=b%2Fc", "/stored"),
        ] {
            let (client, log) = client(move |seen| {
                if seen.path.ends_with("/stored") {
                    answer(200, &[], "0123456789")
                } else {
                    answer(status, &[("location", target)], "moved")
                }
            });
            assert_eq!(read(&client, 10).await.as_deref(), Ok(&b"0123456789"[..]), "{status} {target}");
            let last = log.all().pop().unwrap();
            assert_eq!((last.path.as_str(), last.query.as_str()), (seen_at, "a=b%2Fc"), "{status} {target}");
            assert_eq!(last.scheme, "https", "{target}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn states_the_target_of_a_redirect_that_is_not_followed() {
    for status in [301, 302, 303] {
        let (client, _) = client(move |seen| match seen.method.as_str() {
            "GET" | "HEAD" => missing(),
            _ => answer(status, &[("location", "https://other.example.com/v2/?key=canary")], ""),
        });
        let (descriptor, bytes) = blob();
        let repository = of(&client, SRC);
        let put = repository.put_blob(&descriptor, None, Box::pin(async { Ok(bytes) })).await;
        let manifest = repository.put_manifest(&tag(), &pushed()).await;
        for error in [chain(&put.unwrap_err()), chain(&manifest.unwrap_err())] {
            assert!(error.contains("https://other.example.com, which is not followed"), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
}

/// As [`network`], but this host does not exist.
fn without_host(
    host: &'static str,
    servers: impl Fn(&RecordedRequest) -> Response<Body> + Send + Sync + 'static,
) -> (Transport, Log) {
    let (inner, log) = network(servers);
    let transport = transport(tower::service_fn(
        move |request: Request<Body>| -> BoxFuture<'static, Result<Response<Body>, tower::BoxError>> {
            if request.uri().host() == Some(host) {
                let error = io::Error::other("failed to lookup address information");
                return Box::pin(std::future::ready(Err(error.into())));
            }
            Box::pin(inner.clone().oneshot(request))
        },
    ));
    (transport, log)
}

#[tokio::test(start_paused = true)]
async fn states_where_an_upload_continues_if_that_host_cannot_be_reached() {
    let (transport, _) = without_host("registry", |seen| match seen.method.as_str() {
        "POST" => {
            answer(202, &[("location", "http://registry:5000/v2/shop/web/blobs/uploads/1?state=canary")], "")
        }
        _ => missing(),
    });
    let client = builder(transport).credentials(login()).build().unwrap();
    let (descriptor, bytes) = blob();
    let put = of(&client, SRC).put_blob(&descriptor, None, Box::pin(async { Ok(bytes) })).await;
    let error = chain(&put.unwrap_err());
    assert!(error.contains("http://registry:5000") && error.contains("Host header"), "{error}");
    assert!(!error.contains("canary"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn uploads_continue_at_locations_in_every_form() {
    for (location, path, query) in [
        ("/u/1", "/u/1", ""),
        ("1", "/v2/shop/web/blobs/uploads/1", ""),
        ("../uploads/1?a=b", "/v2/shop/web/blobs/uploads/1", "a=b&"),
        ("?_state=a%2Fb%2B%3D", "/v2/shop/web/blobs/uploads/", "_state=a%2Fb%2B%3D&"),
        ("https://dev.example.com/u?x=1&y=", "/u", "x=1&y=&"),
        ("https://DEV.example.com:443/u?", "/u", ""),
        ("http://dev.example.com/u?_state=a+b/c=", "/u", "_state=a+b/c=&"),
        ("//dev.example.com/u#part", "/u", ""),
        (" /u ", "/u", ""),
    ] {
        let (transport, log) = network(move |seen| match (seen.method.as_str(), &seen.authorization) {
            (_, None) => answer(401, &[("www-authenticate", "Basic realm=\"r\"")], ""),
            ("POST", _) => answer(202, &[("location", location)], ""),
            ("PUT", _) => answer(201, &[], ""),
            _ => missing(),
        });
        let client = builder(transport).credentials(login()).build().unwrap();
        let (descriptor, bytes) = blob();
        of(&client, SRC).put_blob(&descriptor, None, Box::pin(async { Ok(bytes) })).await.unwrap();
        let put = log.all().pop().unwrap();
        let digest = format!("{query}digest=sha256%3A{}", Digest::sha256("blob").hex());
        assert_eq!((put.path.as_str(), put.query.as_str()), (path, digest.as_str()), "{location}");
        assert_eq!((put.scheme.as_str(), &put.body[..]), ("https", &b"blob"[..]), "{location}");
    }
}

#[tokio::test(start_paused = true)]
async fn asks_for_the_rest_of_a_blob_with_both_positions() {
    // The registry of crane rejects a range without its end.
    let (client, log) = client(|seen| match seen.headers.get("range").map(|range| range.to_str().unwrap()) {
        None => {
            let broken = io::Error::from(io::ErrorKind::ConnectionReset);
            Response::new(pieces(stream::iter([Ok(Bytes::from_static(b"01234")), Err(broken)])))
        }
        Some("bytes=5-9") => answer(206, &[("content-range", "bytes 5-9/10")], "56789"),
        Some(_) => answer(416, &[], ""),
    });
    assert_eq!(read(&client, 10).await.as_deref(), Ok(&b"0123456789"[..]));
    assert_eq!(log.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn official_images_of_docker_hub_are_in_library() {
    let (transport, log) = network(|seen| match seen.authorization {
        Some(_) => answer(200, &[], r#"{"mediaType":"a/b"}"#),
        None if seen.path == "/token" => answer(200, &[], r#"{"token":"t"}"#),
        None => answer(401, &[("www-authenticate", "Bearer realm=\"https://auth.docker.io/token\"")], ""),
    });
    let client = builder(transport).credentials(Anonymous).build().unwrap();
    client.repository(&"docker.io/nginx".parse().unwrap()).manifest(&tag()).await.unwrap();
    let seen = log.all();
    assert_eq!(seen[0].path, "/v2/library/nginx/manifests/v1");
    assert_eq!(seen[0].authority, "registry-1.docker.io:443");
    assert_eq!(seen[1].query, "scope=repository%3Alibrary%2Fnginx%3Apull");
}

#[tokio::test(start_paused = true)]
async fn a_cache_is_asked_to_revalidate() {
    for always_aged in [false, true] {
        let (client, log) = client(move |seen| {
            let is_fresh = seen.headers.get("cache-control").is_some_and(|value| value == "no-cache");
            let age = if is_fresh && !always_aged { "0" } else { "12" };
            answer(200, &[("age", age)], r#"{"mediaType":"a/b"}"#)
        });
        let read = of(&client, SRC).manifest(&tag()).await;
        assert_eq!(read.is_err(), always_aged, "{read:?}");
        assert_eq!(log.count(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn waits_for_delays_in_every_form() {
    let date = |seconds: i64| {
        let at = jiff::Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    };
    for (header, seconds) in [
        ("7".to_owned(), 7),
        (" 7 ".to_owned(), 7),
        (date(7), 7),
        // In the past, or not valid: the usual delay.
        (date(-7), 0),
        ("7.5".to_owned(), 0),
        ("soon".to_owned(), 0),
        (String::new(), 0),
    ] {
        for path in ["/token", "/v2/shop/web/manifests/v1"] {
            let (value, throttled) = (header.clone(), std::sync::atomic::AtomicBool::new(false));
            let (transport, _) = network(move |seen| {
                use std::sync::atomic::Ordering::Relaxed;
                if seen.path == path
                    && seen.authorization.is_none() == (path == "/token")
                    && !throttled.swap(true, Relaxed)
                {
                    return answer(429, &[("retry-after", &value)], "You have reached your pull rate limit");
                }
                match (&seen.authorization, seen.path.as_str()) {
                    (_, "/token") => answer(200, &[], r#"{"access_token":"t"}"#),
                    (Some(_), _) => answer(200, &[], r#"{"mediaType":"a/b"}"#),
                    (None, _) => answer(401, &[("www-authenticate", "Bearer realm=\"/token\"")], ""),
                }
            });
            let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
            let client = RegistryClient::builder()
                .transport(transport)
                .retry(RetryPolicy::new(2).pauses(Duration::from_millis(1), Duration::from_millis(2)))
                .time_source(bp_artifact::time::TimeSource::from_fn(move || now))
                .build()
                .unwrap();
            let start = tokio::time::Instant::now();
            of(&client, SRC).manifest(&tag()).await.unwrap_or_else(|error| panic!("{header:?}: {error}"));
            assert_eq!(start.elapsed().as_secs(), seconds, "{header:?} {path}");
        }
    }
}
