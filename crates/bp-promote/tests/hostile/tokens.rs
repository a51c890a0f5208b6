//! Responses of token services.

use std::time::Duration;

use bp_promote::registry::{Anonymous, Login, Logins};
use http::Response;
use tokio::time::Instant;

use crate::{net::*, source::*};

#[tokio::test(start_paused = true)]
async fn accepts_token_lifetimes_of_every_kind() {
    for (lifetime, asked) in [
        ("18446744073709551615", 1),
        ("1000000000000", 1),
        ("9223372036854775807", 1),
        ("1e300", 1),
        ("300.0", 1),
        ("\"300\"", 1),
        ("300", 1),
        // Invalid lifetimes are treated as absent.
        ("-1", 1),
        ("0", 1),
        ("-9223372036854775808", 1),
        ("-1e300", 1),
        ("\"soon\"", 1),
        ("null", 1),
        ("absent", 1),
        ("[]", 1),
        ("{}", 1),
        ("true", 1),
    ] {
        for name in [r#""token""#, r#""token":"","access_token""#, r#""token":null,"access_token""#] {
            let (transport, log) = network(move |seen| match (seen.path.as_str(), &seen.authorization) {
                ("/token", _) if lifetime == "absent" => answer(200, &[], format!(r#"{{{name}:"t"}}"#)),
                ("/token", _) => answer(200, &[], format!(r#"{{{name}:"t","expires_in":{lifetime}}}"#)),
                (_, Some(_)) => answer(200, &[], r#"{"mediaType":"a/b"}"#),
                _ => answer(401, &[("www-authenticate", "Bearer realm=\"/token\"")], ""),
            });
            let login = Logins::new().with(SRC.parse().unwrap(), Login::password("ci", "pw"));
            let client = builder(transport).credentials(login).build().unwrap();
            for _ in 0..3 {
                of(&client, SRC).manifest(&tag()).await.unwrap_or_else(|error| panic!("{lifetime}: {error}"));
            }
            let tokens = log.all().iter().filter(|seen| seen.path == "/token").count();
            assert_eq!(tokens, asked, "{lifetime}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_responses_without_a_valid_token() {
    let long = format!(r#"{{"token":"{}"}}"#, "a".repeat(2 << 20));
    for body in ["null", "[]", "[\"t\"]", "\"t\"", "{}", r#"{"token":"a\nb"}"#, r#"{"token":5}"#, "", &long] {
        let body = body.to_owned();
        let shown = body.chars().take(20).collect::<String>();
        let (transport, log) = network(move |seen| match seen.path.as_str() {
            "/token" => answer(200, &[], body.clone()),
            _ => answer(401, &[("www-authenticate", "Bearer realm=\"/token\"")], ""),
        });
        let client = builder(transport).credentials(Anonymous).build().unwrap();
        let error = error_chain(&of(&client, SRC).manifest(&tag()).await.unwrap_err());
        assert!(error.contains("token"), "{shown}: {error}");
        assert!(error.len() < 500, "{shown}");
        assert!(log.count() <= 6, "{shown}: {}", log.count());
    }
}

#[tokio::test(start_paused = true)]
async fn limits_the_time_of_slow_token_responses() {
    let (transport, _) = network(|seen| match seen.path.as_str() {
        "/token" => Response::new(trickle("{")),
        _ => answer(401, &[("www-authenticate", "Bearer realm=\"/token\"")], ""),
    });
    let client = builder(transport).credentials(Anonymous).build().unwrap();
    let start = Instant::now();
    let error = of(&client, SRC).manifest(&tag()).await.unwrap_err().to_string();
    assert!(error.contains("120 s"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(130), "{:?}", start.elapsed());
}
