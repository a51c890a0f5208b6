//! EKS authentication tokens: presign an STS request as `aws eks get-token` does, cache it and renew it.

use std::{sync::Arc, time::Duration};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider},
};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4::SigningParams,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bp_artifact::time::TimeSource;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// EKS accepts a token for 15 minutes; it is renewed one minute earlier.
const LIFETIME: Duration = Duration::from_secs(14 * 60);
/// `X-Amz-Expires` of the presigned request, as other clients send it.
const EXPIRES: Duration = Duration::from_secs(60);
/// A token is not used in the last minute of the credentials that signed it.
const MARGIN: Duration = Duration::from_secs(60);

/// The length up to which aws-iam-authenticator accepts a token. STS may issue session tokens that are as long, so that
/// the token that contains one is longer.
const LONGEST: usize = 4096;

/// Characters that are not percent-encoded in a query.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An error of signing a token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// The provider returned no credentials.
    #[error("no AWS credentials to sign the cluster's token")]
    NoCredentials(#[source] BoxError),
    /// The request could not be signed.
    #[error("failed to sign the cluster's token")]
    Sign(#[source] BoxError),
}

/// A token and its expiry.
pub(crate) struct Token {
    value: SecretString,
    expires: Timestamp,
}

impl Token {
    /// The secret value: never log it.
    pub(crate) fn expose(&self) -> &str {
        self.value.expose_secret()
    }

    /// The reason to reject the token if it is longer than the authenticator documents. It is sent nevertheless: a
    /// cluster may accept it.
    pub(crate) fn why_too_long(&self) -> Option<String> {
        let length = self.expose().len();
        (length > LONGEST).then(|| {
            format!(
                "the token has {length} characters, and aws-iam-authenticator accepts {LONGEST}: the session token of the \
                AWS credentials is too long; assume the role with fewer or shorter session tags and session policies"
            )
        })
    }
}

/// Tokens for one cluster: signed on first use, cached until they expire.
pub(crate) struct Tokens {
    cluster: String,
    region: String,
    credentials: SharedCredentialsProvider,
    time: TimeSource,
    current: Mutex<Option<Arc<Token>>>,
}

impl Tokens {
    /// `cluster` is the cluster's name, or the id of a local cluster on Outposts.
    pub(crate) fn new(
        cluster: String,
        region: String,
        credentials: SharedCredentialsProvider,
        time: TimeSource,
    ) -> Self {
        Tokens { cluster, region, credentials, time, current: Mutex::default() }
    }

    /// A valid token. Cancel safe; concurrent callers share one signature.
    pub(crate) async fn get(&self) -> Result<Arc<Token>, TokenError> {
        let mut current = self.current.lock().await;
        let now = self.time.now();
        if let Some(token) = current.as_ref().filter(|token| now < token.expires) {
            return Ok(Arc::clone(token));
        }
        let credentials = self.credentials.provide_credentials().await;
        let credentials = credentials.map_err(|e| TokenError::NoCredentials(e.into()))?;
        let value = presign(&self.cluster, &self.region, &credentials, now)?;
        let token = Arc::new(Token { value, expires: expiry(now, &credentials) });
        *current = Some(Arc::clone(&token));
        Ok(token)
    }

    /// Removes a token that the cluster rejected from the cache, unless it was replaced since.
    pub(crate) async fn forget(&self, refused: &Arc<Token>) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|token| Arc::ptr_eq(token, refused)) {
            *current = None;
        }
    }
}

/// The expiry of a token that is signed `now`.
fn expiry(now: Timestamp, credentials: &Credentials) -> Timestamp {
    let own = now + LIFETIME;
    let theirs = credentials.expiry().and_then(|at| Timestamp::try_from(at).ok()).map(|at| at - MARGIN);
    theirs.map_or(own, |theirs| own.min(theirs))
}

/// `k8s-aws-v1.` and a presigned `GetCallerIdentity`, with the cluster's name as a signed header.
fn presign(
    cluster: &str,
    region: &str,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<SecretString, TokenError> {
    let url =
        format!("https://sts.{region}.{}/?Action=GetCallerIdentity&Version=2011-06-15", dns_suffix(region));
    let failed = |e: BoxError| TokenError::Sign(e);
    let identity = credentials.clone().into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(EXPIRES);
    let params = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(now.into())
        .settings(settings)
        .build()
        .map_err(|e| failed(e.into()))?
        .into();
    let headers = std::iter::once(("x-k8s-aws-id", cluster));
    let request = SignableRequest::new("GET", url.as_str(), headers, SignableBody::Bytes(b""));
    let request = request.map_err(|e| failed(e.into()))?;
    let (instructions, _) = sign(request, &params).map_err(|e| failed(e.into()))?.into_parts();

    let (_, mut query) = instructions.into_parts();
    // The parameter order of other clients, the signature last: equal input gives an equal token.
    query.sort_by_key(|(name, _)| *name == "X-Amz-Signature");
    let mut presigned = url;
    for (name, value) in &query {
        presigned.push('&');
        presigned.push_str(name);
        presigned.push('=');
        presigned.extend(utf8_percent_encode(value, UNRESERVED));
    }
    Ok(format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode(presigned)).into())
}

/// The domain of the partition that a region belongs to.
fn dns_suffix(region: &str) -> &'static str {
    match region.split_once('-').map(|(partition, rest)| (partition, rest.split('-').next())) {
        Some(("cn", _)) => "amazonaws.com.cn",
        Some(("eusc", _)) => "amazonaws.eu",
        Some((_, Some("iso"))) => "c2s.ic.gov",
        Some((_, Some("isob"))) => "sc2s.sgov.gov",
        Some((_, Some("isoe"))) => "cloud.adc-e.uk",
        Some((_, Some("isof"))) => "csp.hci.ic.gov",
        _ => "amazonaws.com",
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::atomic::{AtomicI64, AtomicUsize, Ordering},
    };

    use aws_credential_types::provider::{self, future};

    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn at(seconds: i64) -> Timestamp {
        "2026-03-01T12:00:00Z".parse::<Timestamp>().unwrap() + Duration::from_secs(seconds as u64)
    }

    fn credentials(session: Option<&str>) -> Credentials {
        Credentials::new("AKIDEXAMPLE", SECRET, session.map(str::to_owned), None, "test")
    }

    fn signed(cluster: &str, region: &str, session: Option<&str>) -> String {
        presign(cluster, region, &credentials(session), at(0)).unwrap().expose_secret().to_owned()
    }

    /// The checks of aws-iam-authenticator before it sends a token to STS.
    fn verify(token: &str, region: &str, now: Timestamp) -> Result<(), String> {
        let fail = |why: &str| Err(why.to_owned());
        if token.len() > LONGEST {
            return fail("too long");
        }
        let Some(encoded) = token.strip_prefix("k8s-aws-v1.") else { return fail("prefix") };
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|e| e.to_string())?;
        let url = String::from_utf8(bytes).map_err(|e| e.to_string())?;
        let uri: http::Uri = url.parse().map_err(|_| "no URL".to_owned())?;
        if uri.scheme_str() != Some("https") || uri.path() != "/" {
            return fail("scheme or path");
        }
        let hosts = [
            format!("sts.{region}.amazonaws.com"),
            format!("sts.{region}.amazonaws.com.cn"),
            format!("sts.{region}.amazonaws.eu"),
            format!("sts.{region}.c2s.ic.gov"),
            format!("sts.{region}.sc2s.sgov.gov"),
            format!("sts.{region}.cloud.adc-e.uk"),
            format!("sts.{region}.csp.hci.ic.gov"),
        ];
        if !hosts.iter().any(|host| uri.host() == Some(host)) {
            return fail("host");
        }
        let known = [
            "action",
            "version",
            "x-amz-algorithm",
            "x-amz-credential",
            "x-amz-date",
            "x-amz-expires",
            "x-amz-security-token",
            "x-amz-signature",
            "x-amz-signedheaders",
            "x-amz-user-agent",
        ];
        let mut query = BTreeMap::new();
        for pair in uri.query().unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').ok_or("a pair without =")?;
            let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned();
            let name = name.to_lowercase();
            if !known.contains(&name.as_str()) {
                return fail("a parameter that is not on the list");
            }
            if query.insert(name, value).is_some() {
                return fail("a parameter twice");
            }
        }
        let value = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        if value("action") != "GetCallerIdentity" {
            return fail("action");
        }
        if !value("x-amz-signedheaders").split(';').any(|header| header == "x-k8s-aws-id") {
            return fail("the cluster is not signed");
        }
        if !value("x-amz-expires").parse().is_ok_and(|expires: u32| expires <= 900) {
            return fail("expires");
        }
        let date = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", value("x-amz-date"))
            .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC))
            .map_err(|e| e.to_string())?
            .timestamp();
        if now < date - Duration::from_secs(60) || now > date + Duration::from_secs(900) {
            return fail("date");
        }
        Ok(())
    }

    #[test]
    fn authenticator_accepts_tokens_in_every_partition() {
        for region in [
            "eu-central-1",
            "us-gov-west-1",
            "cn-north-1",
            "us-iso-east-1",
            "us-isob-east-1",
            "eusc-de-east-1",
        ] {
            let token = signed("shop", region, Some("session/token+with=signs"));
            assert_eq!(verify(&token, region, at(899)), Ok(()), "{region}");
            assert!(verify(&token, region, at(901)).is_err());
            assert!(verify(&token, "eu-west-1", at(0)).is_err(), "the verifier can refuse");
        }
    }

    /// The expected values are from botocore's SigV4QueryAuth with the same clock, credentials and cluster.
    #[test]
    fn equals_the_tokens_of_botocore() {
        assert_eq!(signed("shop", "eu-central-1", None), GOLDEN);
        assert_eq!(signed("shop", "cn-north-1", Some("session/token+with=signs")), GOLDEN_SESSION);
    }

    const GOLDEN: &str = "k8s-aws-v1.aHR0cHM6Ly9zdHMuZXUtY2VudHJhbC0xLmFtYXpvbmF3cy5jb20vP0FjdGlvbj1HZXRDYWxsZXJJZGVudGl0eSZWZXJzaW9uPTIwMTEtMDYtMTUmWC1BbXotQWxnb3JpdGhtPUFXUzQtSE1BQy1TSEEyNTYmWC1BbXotQ3JlZGVudGlhbD1BS0lERVhBTVBMRSUyRjIwMjYwMzAxJTJGZXUtY2VudHJhbC0xJTJGc3RzJTJGYXdzNF9yZXF1ZXN0JlgtQW16LURhdGU9MjAyNjAzMDFUMTIwMDAwWiZYLUFtei1FeHBpcmVzPTYwJlgtQW16LVNpZ25lZEhlYWRlcnM9aG9zdCUzQngtazhzLWF3cy1pZCZYLUFtei1TaWduYXR1cmU9ZTNlNzA0Y2UwZWQ2NWRiYjE3YWY3N2UzMjc2NGMzNGIwNDhjNzUyMjI0Y2FlYTBmZWE1ZGJkYjUzZjE4M2JkYQ";
    const GOLDEN_SESSION: &str = "k8s-aws-v1.aHR0cHM6Ly9zdHMuY24tbm9ydGgtMS5hbWF6b25hd3MuY29tLmNuLz9BY3Rpb249R2V0Q2FsbGVySWRlbnRpdHkmVmVyc2lvbj0yMDExLTA2LTE1JlgtQW16LUFsZ29yaXRobT1BV1M0LUhNQUMtU0hBMjU2JlgtQW16LUNyZWRlbnRpYWw9QUtJREVYQU1QTEUlMkYyMDI2MDMwMSUyRmNuLW5vcnRoLTElMkZzdHMlMkZhd3M0X3JlcXVlc3QmWC1BbXotRGF0ZT0yMDI2MDMwMVQxMjAwMDBaJlgtQW16LUV4cGlyZXM9NjAmWC1BbXotU2lnbmVkSGVhZGVycz1ob3N0JTNCeC1rOHMtYXdzLWlkJlgtQW16LVNlY3VyaXR5LVRva2VuPXNlc3Npb24lMkZ0b2tlbiUyQndpdGglM0RzaWducyZYLUFtei1TaWduYXR1cmU9M2RmYmRlYjgyODFlYTU3OGE2MGE3MzIyNjQ3NWEzNzllM2Q2YTEyNzMxZjU2MDRhMDM2YjNlNTUxMWEyNGFjNw";

    /// A credentials provider that counts its calls.
    #[derive(Debug, Default)]
    struct Provider {
        asked: AtomicUsize,
        expiry: Option<Timestamp>,
    }

    impl ProvideCredentials for Provider {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let expiry = self.expiry.map(Into::into);
            future::ProvideCredentials::ready(provider::Result::Ok(Credentials::new(
                "AKIDEXAMPLE",
                SECRET,
                None,
                expiry,
                "test",
            )))
        }
    }

    fn tokens(expiry: Option<Timestamp>) -> (Tokens, Arc<Provider>, Arc<AtomicI64>) {
        let provider = Arc::new(Provider { expiry, ..Provider::default() });
        let clock = Arc::new(AtomicI64::new(0));
        let now = Arc::clone(&clock);
        let time = TimeSource::from_fn(move || at(now.load(Ordering::SeqCst)));
        let shared = SharedCredentialsProvider::from(Arc::clone(&provider) as Arc<dyn ProvideCredentials>);
        (Tokens::new("shop".into(), "eu-central-1".into(), shared, time), provider, clock)
    }

    #[tokio::test]
    async fn caches_a_token_until_it_or_its_credentials_expire() {
        for (expiry, good_until) in [(None, 14 * 60), (Some(at(3600)), 14 * 60), (Some(at(300)), 240)] {
            let (tokens, provider, clock) = tokens(expiry);
            let first = tokens.get().await.unwrap();
            clock.store(good_until - 1, Ordering::SeqCst);
            assert!(Arc::ptr_eq(&first, &tokens.get().await.unwrap()));
            clock.store(good_until, Ordering::SeqCst);
            assert_ne!(first.expose(), tokens.get().await.unwrap().expose());
            assert_eq!(provider.asked.load(Ordering::SeqCst), 2);
        }
    }

    #[tokio::test]
    async fn signs_a_rejected_token_again_once() {
        let (tokens, provider, _) = tokens(None);
        let refused = tokens.get().await.unwrap();
        tokens.forget(&refused).await;
        let second = tokens.get().await.unwrap();
        // Another request that was rejected with the first token does not discard the second.
        tokens.forget(&refused).await;
        assert!(Arc::ptr_eq(&second, &tokens.get().await.unwrap()));
        assert_eq!(provider.asked.load(Ordering::SeqCst), 2);
    }
}
