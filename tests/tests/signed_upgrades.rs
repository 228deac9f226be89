//! Upgrades to signed images: each form of signature, and attacks that have to fail while the old version serves.

use serde_json::json;
use thv_tests::{
    Authority, Client, Docker, Form, ImageStore, Machine, Offers, Signature, Trouble, Workflow, docker,
};

const POLICIES: [&str; 2] = ["warn", "enabled"];

/// A machine that trusts an authority, and a registry of images that can be made to misbehave.
struct World {
    docker: Docker,
    machine: Machine,
    store: ImageStore,
    authority: Authority,
    offers: Offers,
    name: String,
}

impl World {
    /// Version 1.0.0 runs, verified. `None`: skip.
    async fn new(stem: &str) -> Option<Self> {
        let docker = docker().await?;
        let mut machine = Machine::with_docker(&docker);
        let authority = Authority::new();
        let root = machine.folder().join("trusted_root.json");
        std::fs::write(&root, authority.trusted_root()).expect("a file");
        machine.set("THV_TRUSTED_ROOT", root);
        let world = Self {
            name: machine.name(stem),
            store: ImageStore::start().await,
            offers: Offers::new(&machine, "stdio").signed_by(&Workflow::default()),
            docker,
            machine,
            authority,
        };
        let digest = world.put("1.0.0");
        world.sign(Form::BundleV3, &digest);
        world.offer("1.0.0").await;
        let run = ["run", "echo", "--name", &world.name, "--wait=1m"];
        let verified = ["--image-verification", "enabled"];
        world.machine.thv(run.iter().chain(&verified)).await.ok();
        Some(world)
    }

    /// An image that goes with the test; its digest.
    fn put(&self, version: &str) -> String {
        self.passing(self.store.put_echo(version, version))
    }

    fn passing(&self, digest: String) -> String {
        self.docker.passes(&format!("{}@{digest}", self.repository()));
        digest
    }

    fn sign(&self, form: Form, digest: &str) {
        let signature = self.authority.sign(form, digest, &Workflow::default());
        self.store.attach(&signature);
    }

    fn repository(&self) -> String {
        self.store.repository("acme/echo")
    }

    async fn offer(&self, tag: &str) {
        let image = format!("{}:{tag}", self.repository());
        self.offers.offer(&self.machine, &image).await;
    }

    async fn apply(&self, policy: &str) -> thv_tests::Output {
        let apply = ["upgrade", "apply", &self.name, "--yes", "--format", "json"];
        let policy = ["--image-verification", policy];
        self.machine.thv(apply.iter().chain(&policy)).await
    }

    async fn version(&self) -> String {
        let client = Client::connect(&self.machine.workload(&self.name).await.url).await;
        let version = client.call("version", json!({})).await;
        client.close().await;
        version
    }

    fn config(&self) -> Vec<u8> {
        let path = self
            .machine
            .dirs()
            .runconfigs()
            .join(format!("{}.json", self.name));
        std::fs::read(path).expect("a configuration")
    }

    async fn remove(&self) {
        self.machine.thv(["rm", &self.name]).await.ok();
        self.docker.assert_gone(&self.name).await;
    }
}

#[tokio::test]
async fn a_version_signed_in_any_form_takes_the_place_of_the_one_before() {
    let Some(world) = World::new("forms").await else {
        return;
    };
    for (at, form) in Form::ALL.into_iter().enumerate() {
        let version = format!("1.{}.0", at + 1);
        let digest = world.put(&version);
        world.sign(form, &digest);
        world.offer(&version).await;
        let applied = world.apply("enabled").await.ok();
        assert_eq!(applied.json()["applied"], true, "{form:?}: {applied}");
        assert_eq!(world.version().await, version, "{form:?}");
    }
    world.remove().await;
}

/// What a registry does to who upgrades to the image with this tag.
type Attack = fn(&World, tag: &str);

/// The image is there; somebody else signed it.
fn signed_by(world: &World, tag: &str, form: Form, change: impl FnOnce(&mut Workflow)) {
    let mut workflow = Workflow::default();
    change(&mut workflow);
    let digest = world.put(tag);
    world
        .store
        .attach(&world.authority.sign(form, &digest, &workflow));
}

/// It is signed, and what `change` makes of the signature is attached.
fn with_signature(world: &World, tag: &str, form: Form, change: impl FnOnce(&mut Signature)) {
    let digest = world.put(tag);
    let mut signature = world.authority.sign(form, &digest, &Workflow::default());
    change(&mut signature);
    world.store.attach(&signature);
}

/// It is signed as it should be, and its layer comes so.
fn with_layer(world: &World, tag: &str, trouble: Trouble) {
    let (digest, layer) = world.store.put_echo_of_its_own(tag, tag);
    let digest = world.passing(digest);
    world.sign(Form::BundleV3, &digest);
    world.store.trouble(&layer, trouble);
}

/// What has to fail, with its code.
const ATTACKS: [(&str, &str, Attack); 12] = [
    (
        "the signature of another image, by cosign",
        "image_denied",
        |world, tag| {
            let other = world
                .authority
                .sign(Form::CosignTag, &world.put("other"), &Workflow::default());
            with_signature(world, tag, Form::CosignTag, |signature| {
                signature.content = other.content;
                signature.annotations = other.annotations;
            });
        },
    ),
    ("the bundle of another image", "image_denied", |world, tag| {
        let other = world
            .authority
            .sign(Form::BundleV3, &world.put("other"), &Workflow::default());
        with_signature(world, tag, Form::BundleV3, |signature| {
            signature.content = other.content;
        });
    }),
    (
        "the attestation of another image",
        "image_denied",
        |world, tag| {
            let other = world
                .authority
                .sign(Form::Attestation, &world.put("other"), &Workflow::default());
            with_signature(world, tag, Form::Attestation, |signature| {
                signature.content = other.content;
            });
        },
    ),
    ("another repository", "image_denied", |world, tag| {
        signed_by(world, tag, Form::CosignReferrer, |it| {
            it.repository = "https://github.com/evil/echo".into();
        });
    }),
    ("another workflow", "image_denied", |world, tag| {
        signed_by(world, tag, Form::BundleV3, |it| {
            it.path = "/.github/workflows/evil.yml".into();
        });
    }),
    ("another authority", "image_denied", |world, tag| {
        let digest = world.put(tag);
        let stranger = Authority::new();
        world
            .store
            .attach(&stranger.sign(Form::Attestation, &digest, &Workflow::default()));
    }),
    ("a forged entry of the log", "image_denied", |world, tag| {
        with_signature(world, tag, Form::BundleV3, |signature| {
            let mut bundle: serde_json::Value = serde_json::from_slice(&signature.content).expect("a bundle");
            bundle["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = "1700000000".into();
            signature.content = bundle.to_string().into_bytes();
        });
    }),
    ("an image of another platform", "wrong_platform", |world, tag| {
        let digest = world.store.put_empty(tag, "windows/amd64");
        world.sign(Form::BundleV3, &digest);
    }),
    ("a registry that fails", "registry_unavailable", |world, tag| {
        with_signature(world, tag, Form::BundleV3, |_| {});
        world
            .store
            .trouble(&format!("/manifests/{tag}"), Trouble::Status(500));
    }),
    (
        "a manifest that is another one",
        "registry_bad_answer",
        |world, tag| {
            with_signature(world, tag, Form::BundleV3, |_| {});
            world
                .store
                .trouble(&format!("/manifests/{tag}"), Trouble::WrongDigest);
        },
    ),
    ("a layer that is cut off", "failed", |world, tag| {
        with_layer(world, tag, Trouble::Half);
    }),
    ("a layer of other bytes", "failed", |world, tag| {
        with_layer(world, tag, Trouble::OtherBytes);
    }),
];

#[tokio::test]
async fn an_attack_fails_while_the_old_version_serves() {
    let Some(world) = World::new("attacked").await else {
        return;
    };
    let before = world.config();
    let instance = world.docker.instance(&world.name).await.expect("a container");
    // One session for all of it: the old version is never interrupted.
    let client = Client::connect(&world.machine.workload(&world.name).await.url).await;
    for (at, (what, code, attack)) in ATTACKS.into_iter().enumerate() {
        let tag = format!("1.{}.0", at + 1);
        attack(&world, &tag);
        world.offer(&tag).await;
        for policy in POLICIES {
            let failed = world.apply(policy).await;
            assert_eq!(failed.code, Some(1), "{what}, {policy}: {failed}");
            assert_eq!(failed.json()["error"]["code"], code, "{what}, {policy}: {failed}");
            assert_eq!(
                client.call("version", json!({})).await,
                "1.0.0",
                "{what}, {policy}"
            );
        }
        world.store.recover();
    }
    client.close().await;
    assert_eq!(world.config(), before);
    let now = world.docker.instance(&world.name).await.expect("a container");
    assert_eq!(now.id, instance.id, "it is the container that it was");
    world.remove().await;
}

#[tokio::test]
async fn a_tag_that_moves_is_what_it_was_when_it_was_verified_or_nothing() {
    let Some(world) = World::new("moving").await else {
        return;
    };
    let evil = Workflow {
        repository: "https://github.com/evil/echo".into(),
        ..Workflow::default()
    };
    // Between the check and the upgrade, to what somebody else signed.
    let digest = world.put("1.1.0");
    world.sign(Form::BundleV3, &digest);
    world.offer("1.1.0").await;
    let check = ["upgrade", "check", &world.name, "--format", "json"];
    let checked = world.machine.thv(check).await.ok();
    assert_eq!(checked.json()[0]["status"], "upgrade-available", "{checked}");
    let moved = world.passing(world.store.put_echo("1.1.0", "evil"));
    world
        .store
        .attach(&world.authority.sign(Form::BundleV3, &moved, &evil));
    for policy in POLICIES {
        let failed = world.apply(policy).await.failed();
        assert_eq!(failed.json()["error"]["code"], "image_denied", "{failed}");
        assert_eq!(world.version().await, "1.0.0");
    }

    // Between the verification and the pull: what was verified runs.
    let digest = world.put("1.2.0");
    world.sign(Form::BundleV3, &digest);
    world.store.moves_when_asked("/referrers/", "1.2.0", &moved);
    world.offer("1.2.0").await;
    world.apply("enabled").await.ok();
    let tag = format!("{}:1.2.0", world.repository());
    assert_ne!(world.store.digest_of("1.2.0"), Some(digest), "{tag} has moved");
    assert_eq!(world.version().await, "1.2.0");
    world.remove().await;
}
