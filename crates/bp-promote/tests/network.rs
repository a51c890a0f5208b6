//! Tests of network settings: a private certificate authority, client certificates, a proxy, plain HTTP.

mod common;

use std::sync::Arc;

use bp_artifact::error::Classified as _;
use bp_promote::{
    RegistryClient,
    content::Reference,
    registry::{Anonymous, RegistryClientBuilder},
    retry::RetryPolicy,
};
use bp_sandbox::{Sandbox, registry::RegistryOptions};
use common::*;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

const MANIFEST: &str = r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;

/// A private certificate authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Authority { pem: certificate.pem(), issuer: Issuer::new(params, key), certificate }
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// The client's certificate and key in one file.
    fn identity(&self) -> String {
        let (certificate, key) = self.issue("ci", ExtendedKeyUsagePurpose::ClientAuth);
        certificate.pem() + &key.serialize_pem()
    }

    /// Serves a registry with one manifest that requires client certificates. Returns its port.
    async fn serve(&self) -> u16 {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build().unwrap();
        let (certificate, key) = self.issue("registry.test", ExtendedKeyUsagePurpose::ServerAuth);
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut socket) = acceptor.accept(socket).await else { continue };
                let _ = socket.read(&mut [0; 4096]).await;
                let length = MANIFEST.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{MANIFEST}"
                );
                let _ = socket.write_all(answer.as_bytes()).await;
                let _ = socket.shutdown().await;
            }
        });
        port
    }
}

fn builder() -> RegistryClientBuilder {
    RegistryClient::builder().credentials(Anonymous).retry(RetryPolicy::new(0))
}

#[tokio::test]
async fn supports_a_private_ca_and_client_certificates() {
    let authority = Authority::new();
    let port = authority.serve().await;
    let ask = async |builder: RegistryClientBuilder| {
        let client = builder
            .endpoint("registry.example.com".parse().unwrap(), format!("https://registry.test:{port}"))
            .proxy(format!("http://{}", tunnel(port).await))
            .build()
            .unwrap();
        let repository = client.repository(&"registry.example.com/shop/web".parse().unwrap());
        repository.manifest(&Reference::Tag("v1".parse().unwrap())).await
    };
    let both = builder().root_certificates(authority.pem.clone()).client_certificate(authority.identity());
    assert_eq!(&ask(both).await.unwrap().bytes[..], MANIFEST.as_bytes());

    let without_certificate = ask(builder().root_certificates(authority.pem.clone())).await.unwrap_err();
    let untrusted = ask(builder().client_certificate(authority.identity())).await.unwrap_err();
    assert!(without_certificate.is_retryable(), "{without_certificate}");
    assert!(!untrusted.is_retryable(), "{untrusted}");
    assert!(untrusted.to_string().contains("--ca"), "{untrusted}");
}

#[tokio::test]
async fn states_the_option_for_tls_problems() {
    let authority = Authority::new();
    let sandbox = Sandbox::builder().registry(SRC, RegistryOptions::default()).build();
    let served = sandbox.serve().await.unwrap();
    let plain = format!("https://{}", served.address(SRC).unwrap());
    let encrypted = format!("http://127.0.0.1:{}", authority.serve().await);
    for (endpoint, option) in [(plain, "add --plain-http"), (encrypted, "omit --plain-http")] {
        let client = RegistryClient::builder()
            .credentials(Anonymous)
            .endpoint("registry.example.com".parse().unwrap(), endpoint)
            .build()
            .unwrap();
        let repository = client.repository(&"registry.example.com/shop/web".parse().unwrap());
        let error = repository.manifest(&Reference::Tag("v1".parse().unwrap())).await.unwrap_err();
        assert!(error.to_string().contains(option), "{error}");
        assert!(!error.is_retryable());
    }
}

/// A proxy that forwards every tunnel to this port on loopback.
async fn tunnel(port: u16) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                let read = client.read(&mut asked).await.unwrap_or_default();
                if !asked[..read].starts_with(b"CONNECT registry.test:") {
                    return;
                }
                let Ok(mut server) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else {
                    return;
                };
                let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn supports_plain_http_and_a_proxy() {
    let sandbox = Sandbox::builder().registry(SRC, RegistryOptions::default()).build();
    let image = single();
    sandbox.registry(SRC).push(&image, "shop/web", "v1");
    let served = sandbox.serve().await.unwrap();
    let name = Reference::Tag("v1".parse().unwrap());
    // The host name does not resolve: the request goes to the proxy, in clear text.
    let client = builder()
        .plain_http(SRC.parse().unwrap())
        .proxy(format!("http://{}", served.address(SRC).unwrap()))
        .build()
        .unwrap();
    let repository = client.repository(&format!("{SRC}/shop/web").parse().unwrap());
    assert_eq!(repository.manifest(&name).await.unwrap().digest.as_str(), image.digest());
}
