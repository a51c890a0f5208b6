//! Two in-memory registries and a client for both.
#![allow(dead_code, reason = "each test file uses its own part")]

#[cfg(feature = "ecr")]
pub(crate) mod ecr;

use bp_artifact::{ImageRef, time::TimeSource};
use bp_promote::{
    CopyError, CopyOptions, CopyReport, RegistryClient, copy,
    registry::{CredentialSource, Login, Logins, transport},
};
use bp_sandbox::{Image, ImageBuilder, Sandbox, registry::RegistryOptions};

pub(crate) const SRC: &str = "dev.example.com";
pub(crate) const DST: &str = "prod.example.com";

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) client: RegistryClient,
}

impl World {
    pub(crate) fn new(source: RegistryOptions, destination: RegistryOptions) -> Self {
        Self::with(source, destination, Logins::new())
    }

    pub(crate) fn with(
        source: RegistryOptions,
        destination: RegistryOptions,
        credentials: impl CredentialSource + 'static,
    ) -> Self {
        let sandbox = Sandbox::builder().registry(SRC, source).registry(DST, destination).build();
        let client = client(&sandbox, credentials);
        World { sandbox, client }
    }

    pub(crate) fn plain() -> Self {
        Self::new(RegistryOptions::default(), RegistryOptions::default())
    }

    /// Pushes `image` to the source as `shop/web:v1`.
    pub(crate) fn push(&self, image: &Image) {
        self.sandbox.registry(SRC).push(image, "shop/web", "v1");
    }

    pub(crate) async fn copy(&self) -> Result<CopyReport, CopyError> {
        self.copy_as(&format!("{SRC}/shop/web:v1"), &format!("{DST}/shop/web:v1")).await
    }

    pub(crate) async fn copy_as(&self, from: &str, to: &str) -> Result<CopyReport, CopyError> {
        let (from, to): (ImageRef, ImageRef) = (from.parse().unwrap(), to.parse().unwrap());
        copy(self.client.image(&from), self.client.image(&to), CopyOptions::default()).await
    }

    /// The destination's tag points to the image, and all content exists, byte for byte.
    pub(crate) fn assert_copied(&self, image: &Image) {
        let registry = self.sandbox.registry(DST);
        assert_eq!(registry.tags("shop/web").get("v1").map(String::as_str), Some(image.digest()));
        assert_complete(&self.sandbox, DST, image);
    }

    pub(crate) fn operations(&self, host: &str) -> Vec<String> {
        self.sandbox.ledger().operations(host)
    }
}

pub(crate) fn client(sandbox: &Sandbox, credentials: impl CredentialSource + 'static) -> RegistryClient {
    let clock = sandbox.clock().clone();
    RegistryClient::builder()
        .transport(transport(sandbox.transport()))
        .credentials(credentials)
        .time_source(TimeSource::from_fn(move || clock.now()))
        .build()
        .unwrap()
}

pub(crate) fn assert_complete(sandbox: &Sandbox, host: &str, image: &Image) {
    let registry = sandbox.registry(host);
    for (media_type, bytes) in image.manifests() {
        let digest = bp_artifact::Digest::sha256(bytes);
        let stored = registry.manifest("shop/web", digest.as_str()).expect("the manifest exists");
        assert_eq!((&stored.bytes, &stored.media_type), (bytes, media_type));
    }
    for bytes in image.blobs() {
        let digest = bp_artifact::Digest::sha256(bytes);
        assert_eq!(registry.blob("shop/web", digest.as_str()).as_ref(), Some(bytes));
    }
}

/// An image for one platform with two layers: a manifest and three blobs.
pub(crate) fn single() -> Image {
    ImageBuilder::new().layer([("base", "base")]).layer([("app", "app")]).build()
}

/// An image for two platforms that share a layer: an index, two manifests, five blobs.
pub(crate) fn multi() -> Image {
    ImageBuilder::new()
        .platform("linux/amd64")
        .platform("linux/arm64")
        .layer([("base", "base")])
        .layer_for("linux/amd64", [("app", "amd64 program")])
        .layer_for("linux/arm64", [("app", "arm64 program")])
        .build()
}

/// An image with a layer of `size` incompressible bytes.
pub(crate) fn large(size: usize) -> Image {
    let mut random = fastrand::Rng::with_seed(7);
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(size).collect();
    ImageBuilder::new().layer([("data", bytes)]).build()
}

pub(crate) fn login(host: &str, user: &str, password: &str) -> Logins {
    Logins::new().with(host.parse().unwrap(), Login::password(user, password))
}
