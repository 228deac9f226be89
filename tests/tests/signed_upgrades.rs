//! Upgrades to signed images: each form of signature, and attacks that have to fail while the old version serves.

use serde_json::{Value, json};
use thv_tests::{
    Authority, Client, Docker, Form, ImageStore, Machine, Offers, Output, PrivateEngine, Signature, Trouble,
    Workflow, docker,
};

const POLICIES: [&str; 2] = ["warn", "enabled"];

/// A machine that trusts an authority, and a registry of images that can be made to misbehave.
struct World {
    docker: Docker,
    machine: Machine,
    store: ImageStore,
    authority: Authority,
    /// One that was trusted until its certificate ran out.
    expired: Authority,
    offers: Offers,
    name: String,
}

impl World {
    /// Version 1.0.0 runs, verified. `None`: skip.
    async fn new(stem: &str) -> Option<Self> {
        let docker = docker().await?;
        Some(Self::on(stem, docker, ImageStore::start().await).await)
    }

    /// The same on this engine, which reaches this registry.
    async fn on(stem: &str, docker: Docker, store: ImageStore) -> Self {
        let mut machine = Machine::with_docker(&docker);
        let (authority, expired) = (Authority::new(), Authority::expired());
        let root = machine.folder().join("trusted_root.json");
        std::fs::write(&root, authority.trusted_root_with(&expired)).expect("a file");
        machine.set("THV_TRUSTED_ROOT", root);
        let world = Self {
            name: machine.name(stem),
            store,
            offers: Offers::new(&machine, "stdio").signed_by(&Workflow::default()),
            docker,
            machine,
            authority,
            expired,
        };
        let digest = world.put("1.0.0");
        world.sign(Form::BundleV3, &digest);
        world.offer("1.0.0").await;
        let run = ["run", "echo", "--name", &world.name, "--wait=1m"];
        let verified = ["--image-verification", "enabled"];
        world.machine.thv(run.iter().chain(&verified)).await.ok();
        world
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

    async fn apply(&self, policy: &str) -> Output {
        self.apply_within(policy, None).await
    }

    /// With so many seconds for what a registry takes; none: as many as usual.
    async fn apply_within(&self, policy: &str, seconds: Option<u32>) -> Output {
        let apply = ["upgrade", "apply", &self.name, "--yes", "--format", "json"];
        let policy = ["--image-verification", policy];
        let mut command = self.machine.command(apply.iter().chain(&policy));
        if let Some(seconds) = seconds {
            for variable in ["THV_REGISTRY_TIMEOUT", "THV_PULL_TIMEOUT"] {
                command.env(variable, seconds.to_string());
            }
        }
        self.machine.finish(command).await
    }

    /// What is known of the image that runs.
    async fn image(&self) -> Value {
        let status = ["status", &self.name, "--format", "json"];
        self.machine.thv(status).await.ok().json()["thv"]["image"].clone()
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
        assert_eq!(applied.json()["digest"], digest, "{form:?}: {applied}");
        assert_eq!(world.version().await, version, "{form:?}");
        let image = world.image().await;
        assert_eq!(image["digest"], digest, "{form:?}: {image}");
        let provenance = &image["provenance"];
        assert_eq!(provenance["verdict"], "verified", "{form:?}: {image}");
        assert_eq!(provenance["signer"]["repository"], "https://github.com/acme/echo");
    }
    let told = world.machine.thv(["status", &world.name]).await.ok();
    let signed = "signed by https://github.com/acme/echo/.github/workflows/release.yml";
    assert!(told.stdout.contains(signed), "{told}");
    // Under `warn` nobody needs to have signed it, and that is said.
    let digest = world.put("2.0.0");
    world.offer("2.0.0").await;
    world.apply("warn").await.ok().says(["it is not signed"]);
    let image = world.image().await;
    assert_eq!(image["digest"], digest, "{image}");
    assert_eq!(image["provenance"]["verdict"], "unsigned", "{image}");
    let listed = world.machine.thv(["list", "--format", "json"]).await.ok().json();
    let ours = listed
        .as_array()
        .and_then(|all| all.iter().find(|it| it["name"] == world.name));
    assert_eq!(ours.expect("it runs")["thv"]["image"], image);
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
const ATTACKS: [(&str, &str, Attack); 15] = [
    (
        "an authority whose certificate ran out",
        "image_denied",
        |world, tag| {
            let digest = world.put(tag);
            let signature = world.expired.sign(Form::BundleV3, &digest, &Workflow::default());
            world.store.attach(&signature);
        },
    ),
    (
        "a manifest that never comes",
        "registry_timed_out",
        |world, tag| {
            with_signature(world, tag, Form::BundleV3, |_| {});
            world.store.trouble(&format!("/manifests/{tag}"), Trouble::Hang);
        },
    ),
    ("a layer that stops in the middle", "unavailable", |world, tag| {
        with_layer(world, tag, Trouble::Stall);
    }),
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
            // What never comes is waited for, and not for long.
            let seconds = (what.contains("never") || what.contains("stops")).then_some(3);
            let failed = world.apply_within(policy, seconds).await;
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

#[tokio::test]
async fn a_version_for_which_the_disk_is_too_small_leaves_the_old_one_as_it_is() {
    let Some(private) = PrivateEngine::with_disk_of(32).await else {
        return;
    };
    let mut store = ImageStore::start().await;
    store.also_in_network_of(private.pid());
    let world = World::on("full", private.docker().clone(), store).await;
    let before = world.config();
    let instance = world.docker.instance(&world.name).await.expect("a container");
    let client = Client::connect(&world.machine.workload(&world.name).await.url).await;
    let digest = world.passing(world.store.put_echo_of_size("1.1.0", "1.1.0", 48 << 20));
    world.sign(Form::BundleV3, &digest);
    world.offer("1.1.0").await;
    for policy in POLICIES {
        let failed = world.apply(policy).await;
        assert_eq!(failed.code, Some(1), "{policy}: {failed}");
        let failed = failed.says(["no space left on device"]);
        assert_eq!(failed.json()["error"]["code"], "failed", "{policy}: {failed}");
        assert_eq!(client.call("version", json!({})).await, "1.0.0", "{policy}");
    }
    client.close().await;
    assert_eq!(world.config(), before);
    let now = world.docker.instance(&world.name).await.expect("a container");
    assert_eq!(now.id, instance.id, "it is the container that it was");
    // One for which there is room takes its place.
    let digest = world.put("1.2.0");
    world.sign(Form::BundleV3, &digest);
    world.offer("1.2.0").await;
    world.apply("enabled").await.ok();
    assert_eq!(world.version().await, "1.2.0");
    world.remove().await;
}
