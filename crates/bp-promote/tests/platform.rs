//! Tests of the platform of a single-platform image.

mod common;

use bp_artifact::{Digest, Repository};
use bp_promote::store::StoreError;
use bp_sandbox::ImageBuilder;

use common::{SRC, World};

#[tokio::test]
async fn reads_the_platform_from_the_configuration() {
    let world = World::plain();
    let repository: Repository = format!("{SRC}/shop/web").parse().unwrap();
    let client = world.client.repository(&repository);
    for platform in ["linux/amd64", "linux/arm64/v8", "windows/amd64"] {
        let image = ImageBuilder::new().platform(platform).layer([("app", platform)]).build();
        world.push(&image);
        let found = client.platform(&image.digest().parse().unwrap()).await.unwrap();
        assert_eq!(found.map(|platform| platform.to_string()).as_deref(), Some(platform));
    }
    assert_eq!(client.requests(), 6, "two per image");
    let index = ImageBuilder::new().platform("linux/amd64").platform("linux/arm64").build();
    world.push(&index);
    assert_eq!(client.platform(&index.digest().parse().unwrap()).await.unwrap(), None);
    let missing = client.platform(&Digest::sha256("missing")).await;
    assert!(matches!(missing, Err(StoreError::Registry(_))), "{missing:?}");
}
