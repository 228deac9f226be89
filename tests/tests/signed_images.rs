//! Signatures of images: those that hold, in each form, and attacks that have to be refused.

use std::sync::Arc;
use std::time::Duration;

use thv::core::Env;
use thv::image::{
    ClientConfig, Digest, Error, ExpectedIdentity, Gate, ImageGate, Policy, ProvenanceVerifier, Reference,
    RegistryClient, TrustRoots, Verdict,
};
use thv_tests::{Authority, Form, ImageStore, Signature, Trouble, Workflow};

const PLATFORM: &str = "linux/amd64";

struct World {
    store: ImageStore,
    authority: Authority,
    image: Reference,
    digest: String,
}

impl World {
    async fn new() -> Self {
        Self::of(Authority::new()).await
    }

    async fn of(authority: Authority) -> Self {
        let store = ImageStore::start().await;
        let digest = store.put_empty("1", PLATFORM);
        let image = format!("{}:1", store.repository("acme/echo"));
        Self {
            image: image.parse().expect("a reference"),
            store,
            authority,
            digest,
        }
    }

    /// Signs the image as it should be, and attaches what `change` makes of that.
    fn sign(&self, form: Form, change: impl FnOnce(&mut Signature)) {
        let mut signature = self.authority.sign(form, &self.digest, &Workflow::default());
        change(&mut signature);
        self.store.attach(&signature);
    }

    fn gate_within(&self, timeout: Duration) -> Gate {
        let mut config = ClientConfig::from_env(Env::default()).expect("no variables");
        PLATFORM.clone_into(&mut config.platform);
        config.timeout = timeout;
        let client = Arc::new(RegistryClient::new(config));
        let roots = TrustRoots::from_json("test", &self.authority.trusted_root()).expect("a root");
        let verifier = ProvenanceVerifier::new(client.clone(), roots);
        Gate::new(client, Arc::new(verifier))
    }

    fn gate(&self) -> Gate {
        self.gate_within(Duration::from_mins(1))
    }

    async fn admit(&self, policy: Policy) -> Result<thv::image::Admitted, Error> {
        self.admit_as(&Workflow::default().expected(), policy).await
    }

    async fn admit_as(
        &self,
        expected: &ExpectedIdentity,
        policy: Policy,
    ) -> Result<thv::image::Admitted, Error> {
        self.gate().admit(&self.image, Some(expected), policy).await
    }

    /// The signature is wrong, and that is said under `warn` as well.
    async fn assert_denied(&self, what: &str, reason: &str) {
        for policy in [Policy::Warn, Policy::Enabled] {
            let error = self.admit(policy).await.expect_err(what);
            assert_eq!(error.code(), "image_denied", "{what}: {error}");
            assert!(error.to_string().contains(reason), "{what}: {error}");
        }
        let unseen = self.admit(Policy::Disabled).await.expect("not looked at");
        assert_eq!(unseen.verdict, None);
    }

    /// It cannot be found out: a warning under `warn`, an error under `enabled`.
    async fn assert_unverified(&self, gate: &Gate, what: &str) -> thv::image::Admitted {
        let expected = Workflow::default().expected();
        let warned = gate
            .admit(&self.image, Some(&expected), Policy::Warn)
            .await
            .expect(what);
        assert!(warned.warning.is_some(), "{what}");
        let refused = gate.admit(&self.image, Some(&expected), Policy::Enabled).await;
        assert_eq!(refused.expect_err(what).code(), "image_not_verified", "{what}");
        warned
    }
}

/// What is inside a bundle.
fn in_bundle(signature: &mut Signature, change: impl FnOnce(&mut serde_json::Value)) {
    let mut bundle = serde_json::from_slice(&signature.content).expect("a bundle");
    change(&mut bundle);
    signature.content = bundle.to_string().into_bytes();
}

#[tokio::test]
async fn a_signature_holds_in_each_of_its_forms() {
    for form in Form::ALL {
        for listed in [true, false] {
            let world = World::new().await;
            if !listed {
                world.store.without_referrers();
            }
            world.sign(form, |_| {});
            for policy in [Policy::Warn, Policy::Enabled] {
                let admitted = world
                    .admit(policy)
                    .await
                    .unwrap_or_else(|error| panic!("{form:?}: {error}"));
                assert_eq!(admitted.digest.to_string(), world.digest);
                assert_eq!(admitted.warning, None);
                let Some(Verdict::Verified(signer)) = admitted.verdict else {
                    panic!("{form:?}: {:?}", admitted.verdict);
                };
                assert_eq!(signer.identity, "/.github/workflows/release.yml");
                assert_eq!(signer.repository, "https://github.com/acme/echo");
            }
        }
    }
}

#[tokio::test]
async fn no_signature_is_a_warning_or_an_error_as_the_policy_says() {
    let world = World::new().await;
    let gate = world.gate();
    world.assert_unverified(&gate, "no signature").await;
    let undeclared = gate
        .admit(&world.image, None, Policy::Warn)
        .await
        .expect("a warning");
    assert_eq!(undeclared.verdict, Some(Verdict::Undeclared));
    gate.admit(&world.image, None, Policy::Enabled)
        .await
        .expect_err("nobody said who");
}

#[tokio::test]
async fn one_signature_that_holds_is_enough() {
    let world = World::new().await;
    world.sign(Form::BundleV3, |signature| signature.content.truncate(100));
    world.sign(Form::Attestation, |_| {});
    let admitted = world.admit(Policy::Enabled).await.expect("one holds");
    assert!(matches!(admitted.verdict, Some(Verdict::Verified(_))));
}

#[tokio::test]
async fn the_signature_of_another_image_is_refused() {
    for form in Form::ALL {
        let world = World::new().await;
        let other = Digest::of(b"another image").to_string();
        let mut signature = world.authority.sign(form, &other, &Workflow::default());
        // Attached to this one.
        signature.about.clone_from(&world.digest);
        world.store.attach(&signature);
        world.assert_denied(&format!("{form:?}"), "").await;
    }
}

#[tokio::test]
async fn the_signature_of_somebody_else_is_refused() {
    type Change = fn(&mut Workflow);
    let others: [(&str, Change); 5] = [
        ("its repository is", |it| {
            it.repository = "https://github.com/evil/echo".into();
        }),
        ("its signer is", |it| {
            it.path = "/.github/workflows/other.yml".into();
        }),
        ("its issuer is", |it| it.issuer = "https://evil.example".into()),
        ("its ref is", |it| it.repository_ref = "refs/heads/evil".into()),
        ("its runner environment is", |it| it.runner = "self-hosted".into()),
    ];
    for form in [Form::CosignTag, Form::Attestation] {
        for (reason, change) in others {
            let world = World::new().await;
            let mut workflow = Workflow::default();
            change(&mut workflow);
            world
                .store
                .attach(&world.authority.sign(form, &world.digest, &workflow));
            world.assert_denied(reason, reason).await;
        }
    }
}

#[tokio::test]
async fn the_signature_of_another_authority_is_refused() {
    for form in Form::ALL {
        let world = World::new().await;
        let stranger = Authority::new();
        world
            .store
            .attach(&stranger.sign(form, &world.digest, &Workflow::default()));
        world.assert_denied(&format!("{form:?}"), "").await;
    }
}

#[tokio::test]
async fn an_authority_whose_certificate_ran_out_vouches_for_nothing() {
    for form in Form::ALL {
        let world = World::of(Authority::expired()).await;
        world.sign(form, |_| {});
        world
            .assert_denied(&format!("{form:?}"), "was not valid when it was signed")
            .await;
    }
    // Not beside another one that is valid either.
    let expired = Authority::expired();
    let root = expired.trusted_root_with(&Authority::new());
    let roots = TrustRoots::from_json("both", &root).expect("a root");
    let digest = Digest::of(b"a manifest");
    for form in [Form::BundleV3, Form::Attestation] {
        let signature = expired.sign(form, &digest.to_string(), &Workflow::default());
        let expected = Workflow::default().expected();
        let denied = roots.verify_bundle(&signature.content, &digest, &expected).await;
        assert_eq!(denied.expect_err("expired").code(), "image_denied", "{form:?}");
    }
}

#[tokio::test]
async fn who_is_trusted_no_more_vouches_for_nothing() {
    let authority = Authority::new();
    let digest = Digest::of(b"a manifest");
    let expected = Workflow::default().expected();
    for ended in [
        "/certificateAuthorities/0/validFor",
        "/tlogs/0/publicKey/validFor",
    ] {
        let mut root: serde_json::Value = serde_json::from_str(&authority.trusted_root()).expect("JSON");
        let window = root.pointer_mut(ended).expect(ended);
        window["end"] = window["start"].clone();
        let roots = TrustRoots::from_json("ended", &root.to_string()).expect("a root");
        for form in [Form::BundleV1, Form::BundleV3, Form::Attestation] {
            let signature = authority.sign(form, &digest.to_string(), &Workflow::default());
            let denied = roots.verify_bundle(&signature.content, &digest, &expected).await;
            assert_eq!(
                denied.expect_err(ended).code(),
                "image_denied",
                "{ended} {form:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_forged_log_entry_is_refused() {
    type Change = fn(&mut serde_json::Value);
    let changes: [(&str, Change); 6] = [
        ("promise", |bundle| {
            let signature = &mut bundle["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"];
            signature["signedEntryTimestamp"] = "MEUCIQDx".into();
        }),
        ("time", |bundle| {
            bundle["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = "1700000000".into();
        }),
        ("no entry", |bundle| {
            bundle["verificationMaterial"]["tlogEntries"] = serde_json::json!([]);
        }),
        ("root", |bundle| {
            let proof = &mut bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"];
            proof["rootHash"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into();
        }),
        ("log", |bundle| {
            let log = &mut bundle["verificationMaterial"]["tlogEntries"][0]["logId"];
            log["keyId"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into();
        }),
        ("no promise, no time", |bundle| {
            let entry = bundle["verificationMaterial"]["tlogEntries"][0].as_object_mut();
            entry.expect("an entry").remove("inclusionPromise");
        }),
    ];
    for (what, change) in changes {
        let world = World::new().await;
        world.sign(Form::BundleV3, |signature| in_bundle(signature, change));
        world.assert_denied(what, "").await;
    }
    let world = World::new().await;
    world.sign(Form::CosignTag, |signature| {
        let entry = signature.annotations["dev.sigstore.cosign/bundle"]
            .as_str()
            .expect("an entry");
        let forged = entry.replacen("integratedTime\":1", "integratedTime\":2", 1);
        assert_ne!(entry, forged);
        signature.annotations["dev.sigstore.cosign/bundle"] = forged.into();
    });
    world.assert_denied("cosign's time", "").await;
}

#[tokio::test]
async fn a_log_entry_of_another_signature_is_refused() {
    let world = World::new().await;
    let other = world.authority.sign(
        Form::BundleV3,
        &Digest::of(b"other").to_string(),
        &Workflow::default(),
    );
    let other: serde_json::Value = serde_json::from_slice(&other.content).expect("a bundle");
    world.sign(Form::BundleV3, |signature| {
        in_bundle(signature, |bundle| {
            let entries = other["verificationMaterial"]["tlogEntries"].clone();
            bundle["verificationMaterial"]["tlogEntries"] = entries;
        });
    });
    world.assert_denied("another's entry", "").await;
}

#[tokio::test]
async fn a_signature_without_certificate_is_refused() {
    let world = World::new().await;
    world.sign(Form::CosignTag, |signature| {
        let annotations = signature.annotations.as_object_mut().expect("annotations");
        annotations.remove("dev.sigstore.cosign/certificate");
    });
    world.assert_denied("a key", "signed by a key").await;
}

#[tokio::test]
async fn a_bundle_that_is_cut_off_is_refused() {
    for form in Form::ALL {
        let world = World::new().await;
        world.sign(form, |signature| {
            let half = signature.content.len() / 2;
            signature.content.truncate(half);
        });
        world.assert_denied(&format!("{form:?}"), "").await;
    }
    // By the registry: then it is not what its digest says.
    let world = World::new().await;
    world.sign(Form::BundleV3, |_| {});
    let bundle = world
        .authority
        .sign(Form::BundleV3, &world.digest, &Workflow::default());
    world.store.attach(&bundle);
    let blob = Digest::of(&bundle.content).to_string();
    world.store.trouble(&blob, Trouble::Half);
    world.admit(Policy::Enabled).await.expect("the other one holds");
    world.store.trouble("/blobs/sha256:", Trouble::Half);
    let error = world.admit(Policy::Warn).await.expect_err("neither");
    assert_eq!(
        error.code(),
        "registry_bad_answer",
        "the image itself is cut off: {error}"
    );
}

#[tokio::test]
async fn what_is_not_what_its_digest_says_is_not_looked_at() {
    for form in Form::ALL {
        let world = World::new().await;
        let mut listed = String::new();
        world.sign(form, |signature| {
            listed = Digest::of(&signature.content).to_string();
        });
        world.store.trouble(&listed, Trouble::OtherBytes);
        world
            .assert_denied(&format!("{form:?}"), &format!("{listed} is something else"))
            .await;
        world.store.recover();
        world.store.trouble(&listed, Trouble::Status(404));
        world
            .assert_denied(&format!("{form:?}"), "a signature is listed and not there")
            .await;
    }
}

#[tokio::test]
async fn what_names_nobody_is_no_declaration_and_a_root_that_was_chosen_has_to_be_there() {
    let world = World::new().await;
    world.sign(Form::BundleV3, |_| {});
    let nobody = ExpectedIdentity::default();
    let admitted = world.admit_as(&nobody, Policy::Warn).await.expect("a warning");
    assert_eq!(admitted.verdict, Some(Verdict::Undeclared), "{admitted:?}");
    let refused = world.admit_as(&nobody, Policy::Enabled).await;
    assert_eq!(refused.expect_err("nobody").code(), "image_not_verified");

    let mut config = ClientConfig::from_env(Env::default()).expect("no variables");
    PLATFORM.clone_into(&mut config.platform);
    let client = Arc::new(RegistryClient::new(config));
    let verifier = ProvenanceVerifier::new(client.clone(), TrustRoots::from_file("/nowhere/root.json"));
    let gate = Gate::new(client, Arc::new(verifier));
    let expected = Workflow::default().expected();
    let error = gate.admit(&world.image, Some(&expected), Policy::Warn).await;
    assert_eq!(error.expect_err("no root").code(), "trust_root");
}

/// Long enough for a busy machine; what hangs is waited for to its end.
fn patience(trouble: Trouble) -> Duration {
    match trouble {
        Trouble::Hang => Duration::from_secs(5),
        _ => Duration::from_mins(1),
    }
}

#[tokio::test]
async fn a_registry_that_fails_while_signatures_are_looked_for_is_not_a_missing_signature() {
    for trouble in [Trouble::Status(500), Trouble::Status(403), Trouble::Hang] {
        let world = World::new().await;
        world.sign(Form::BundleV3, |_| {});
        let gate = world.gate_within(patience(trouble));
        world.store.trouble("/referrers/", trouble);
        let warned = world.assert_unverified(&gate, &format!("{trouble:?}")).await;
        let verdict = warned.verdict.expect("it was looked at");
        assert!(matches!(verdict, Verdict::Unreachable { .. }), "{verdict:?}");
    }
}

#[tokio::test]
async fn a_registry_that_fails_is_an_error_that_says_so() {
    for (trouble, code, retryable) in [
        (Trouble::Status(500), "registry_unavailable", true),
        (Trouble::Status(429), "registry_rate_limited", true),
        (Trouble::Status(403), "registry_unauthorized", false),
        (Trouble::Status(404), "image_not_found", false),
        (Trouble::Hang, "registry_timed_out", true),
        (Trouble::WrongDigest, "registry_bad_answer", false),
        (Trouble::Half, "registry_bad_answer", false),
        (Trouble::Large((4 << 20) + 1), "registry_bad_answer", false),
    ] {
        let world = World::new().await;
        world.store.trouble("/manifests/", trouble);
        let gate = world.gate_within(patience(trouble));
        for policy in [Policy::Warn, Policy::Enabled] {
            let expected = Workflow::default().expected();
            let error = gate.admit(&world.image, Some(&expected), policy).await;
            let error = error.expect_err(code);
            assert_eq!(error.code(), code, "{trouble:?}: {error}");
            assert_eq!(error.is_retryable(), retryable, "{trouble:?}: {error}");
        }
    }
}

#[tokio::test]
async fn an_image_of_another_platform_is_refused() {
    let world = World::new().await;
    let arm = world.store.put_empty("arm", "linux/arm64");
    let windows = world.store.put_empty("windows", "windows/amd64");
    let right = world.store.put_empty("right", PLATFORM);
    world
        .store
        .put_index("without", &[("linux/arm64", &arm), ("windows/amd64", &windows)]);
    // It says what it is not.
    world.store.put_index("lies", &[(PLATFORM, &arm)]);
    let index = world
        .store
        .put_index("with", &[("linux/arm64", &arm), (PLATFORM, &right)]);
    let admit = async |tag: &str| {
        let image = world.image.with_tag(tag).expect("a tag");
        world.gate().admit(&image, None, Policy::Warn).await
    };
    for tag in ["arm", "windows", "without", "lies"] {
        let error = admit(tag).await.expect_err(tag);
        assert_eq!(error.code(), "wrong_platform", "{tag}: {error}");
    }
    let admitted = admit("with").await.expect("it has ours");
    assert_eq!(
        admitted.digest.to_string(),
        index,
        "what the tag names is what is signed and pulled"
    );
}

#[tokio::test]
async fn a_reference_with_a_digest_is_that_digest_or_nothing() {
    let world = World::new().await;
    let digest: Digest = world.digest.parse().expect("a digest");
    let image = world.image.at(digest);
    world.store.put_empty("1", "linux/arm64");
    let admitted = world
        .gate()
        .admit(&image, None, Policy::Warn)
        .await
        .expect("it is there");
    assert_eq!(admitted.digest, digest);
    let gone = world.image.at(Digest::of(b"gone"));
    let error = world
        .gate()
        .admit(&gone, None, Policy::Warn)
        .await
        .expect_err("gone");
    assert_eq!(error.code(), "image_not_found");
    // Another manifest under that digest, with a header that says what it is.
    world.store.trouble(&world.digest, Trouble::Respelled);
    let error = world
        .gate()
        .admit(&image, None, Policy::Warn)
        .await
        .expect_err("another one");
    assert_eq!(error.code(), "registry_bad_answer");
    assert!(error.to_string().contains("is something else"), "{error}");
}

#[tokio::test]
async fn a_bundle_at_hand_is_verified_without_asking_anybody() {
    let authority = Authority::new();
    let roots = TrustRoots::from_json("test", &authority.trusted_root()).expect("a root");
    let digest = Digest::of(b"a manifest");
    let expected = Workflow::default().expected();
    for form in [Form::BundleV1, Form::BundleV2, Form::BundleV3, Form::Attestation] {
        let signature = authority.sign(form, &digest.to_string(), &Workflow::default());
        let verify = async |digest: &Digest, expected: &ExpectedIdentity| {
            roots.verify_bundle(&signature.content, digest, expected).await
        };
        let signer = verify(&digest, &expected).await.expect("it is signed");
        assert_eq!(signer.repository, "https://github.com/acme/echo", "{form:?}");
        let other = verify(&Digest::of(b"another"), &expected).await;
        assert_eq!(other.expect_err("another").code(), "image_denied", "{form:?}");
        let nobody = verify(&digest, &ExpectedIdentity::default()).await;
        assert_eq!(nobody.expect_err("nobody").code(), "image_denied", "{form:?}");
    }
}
