//! Tests between real registry servers. `cargo xtask e2e --only registries` starts them, passes their addresses in the
//! environment, and checks the copied images with crane.

mod registries {
    use bp_artifact::ImageRef;
    use bp_promote::{
        CopyOptions, OciArchive, OciLayout, RegistryClient, content::Reference, copy, copy::CopyOutcome,
        registry::Anonymous, store::ImageAt,
    };

    fn variable(name: &str) -> String {
        std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run cargo xtask e2e"))
    }

    /// A client for both registries, which use plain HTTP on loopback.
    fn client() -> RegistryClient {
        let registry = |host: &str| host.parse().expect("a registry name");
        RegistryClient::builder()
            .endpoint(registry("source.example.com"), format!("http://{}", variable("BP_E2E_SOURCE")))
            .endpoint(registry("target.example.com"), format!("http://{}", variable("BP_E2E_TARGET")))
            .credentials(Anonymous)
            .build()
            .expect("a client")
    }

    fn image(text: &str) -> ImageRef {
        text.parse().expect("a reference")
    }

    #[tokio::test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    async fn copies_an_index_twice_and_through_a_layout() {
        let (client, digest) = (client(), variable("BP_E2E_DIGEST"));
        let from = client.image(&image("source.example.com/shop/web:1"));
        let to = client.image(&image("target.example.com/copied/web:1"));
        let report = copy(from.clone(), to.clone(), CopyOptions::default()).await.expect("the first copy");
        assert_eq!(report.digest.as_str(), digest);
        let again = copy(from.clone(), to, CopyOptions::default()).await.expect("the second copy");
        assert_eq!((again.outcome, again.blobs.sent), (CopyOutcome::Unchanged, 0));

        let directory = tempfile::tempdir().expect("a directory");
        let layout = OciLayout::create(directory.path().join("web")).await.expect("a layout");
        let tag = Reference::Tag("1".parse().expect("a tag"));
        copy(from, ImageAt::new(layout.clone(), tag.clone()), CopyOptions::default())
            .await
            .expect("a copy to disk");
        let to = client.image(&image("target.example.com/layout/web:1"));
        let report =
            copy(ImageAt::new(layout, tag), to, CopyOptions::default()).await.expect("a copy from disk");
        assert_eq!(report.digest.as_str(), digest);
    }

    #[tokio::test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    async fn exchanges_archives_with_another_tool() {
        let (client, digest) = (client(), variable("BP_E2E_DIGEST"));
        let archives = std::path::PathBuf::from(variable("BP_E2E_ARCHIVES"));
        let from = client.image(&image("source.example.com/shop/web:1"));
        let archive = OciArchive::create(archives.join("ours.tar")).await.expect("an archive");
        let tag: bp_artifact::Tag = "1".parse().expect("a tag");
        copy(from, ImageAt::new(archive, tag), CopyOptions::default()).await.expect("a copy into ours");

        let layout = OciLayout::open(archives.join("theirs.tar")).await.expect("their archive");
        let name = layout.only_image().await.expect("one image");
        let to = client.image(&image("target.example.com/theirs/web:1"));
        let report =
            copy(ImageAt::new(layout, name), to, CopyOptions::default()).await.expect("a copy out of theirs");
        assert_eq!(report.digest.as_str(), digest);
    }

    #[tokio::test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    async fn copies_referrers_of_an_image() {
        let (client, digest) = (client(), variable("BP_E2E_DIGEST"));
        let from = client.image(&image("source.example.com/shop/web:1"));
        let to = client.image(&image("target.example.com/referred/web:1"));
        let options = CopyOptions::default().referrers();
        let report = copy(from.clone(), to.clone(), options.clone()).await.expect("the first copy");
        assert_eq!(report.digest.as_str(), digest);
        let again = copy(from, to, options).await.expect("the second copy");
        assert_eq!((again.outcome, again.blobs.sent), (CopyOutcome::Unchanged, 0));
    }

    #[tokio::test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    async fn a_missing_source_image_changes_nothing() {
        let client = client();
        let from = client.image(&image("source.example.com/shop/web:missing"));
        let to = client.image(&image("target.example.com/missing/web:1"));
        let error = copy(from, to, CopyOptions::default()).await.expect_err("the tag does not exist");
        assert!(error.to_string().contains("missing"), "the error states the tag: {error}");
    }
}
