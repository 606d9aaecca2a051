//! Turns the Kubernetes manifests of deploy/kubernetes into the names that they use, and follows each to what it names.
//! It knows no schema of Kubernetes and applies nothing: a file that passes is well-formed and agrees with itself.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::{Map, Value, json};

const FILES: [&str; 6] =
    ["broker.yaml", "enclave-snp.yaml", "enclave-tdx.yaml", "namespaces.yaml", "network.yaml", "service.yaml"];
/// The programs of the image, as the Dockerfile's stage puts them there.
const PROGRAMS: [&str; 2] = ["/usr/bin/vouchsafe", "/usr/bin/vouchsafe-enclave"];
/// Kinds whose pods run containers.
const WORKLOADS: [&str; 3] = ["Deployment", "StatefulSet", "Job"];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes")
}

fn manifests() -> Vec<Value> {
    let documents = FILES.iter().flat_map(|name| {
        let text = fs::read_to_string(folder().join(name)).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!documents.is_empty(), "{name}");
        documents
    });
    documents.collect()
}

/// The text at this place, or nothing.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn labels(value: &Value, pointer: &str) -> Map<String, Value> {
    value.pointer(pointer).and_then(Value::as_object).cloned().unwrap_or_default()
}

/// Whether every wanted label is there.
fn selects(wanted: &Map<String, Value>, there: &Map<String, Value>) -> bool {
    wanted.iter().all(|(name, value)| there.get(name) == Some(value))
}

/// Everything in these documents that names what is not there, or leaves out what each must have.
fn problems(documents: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen = BTreeMap::new();
    for document in documents {
        let name = (text(document, "/kind"), text(document, "/metadata/namespace"), text(document, "/metadata/name"));
        let at = format!("{} {}/{}", name.0, name.1, name.2);
        if name.0.is_empty() || name.2.is_empty() || text(document, "/apiVersion").is_empty() {
            found.push(format!("{at}: no kind, name or version"));
        }
        if seen.insert(name, ()).is_some() {
            found.push(format!("{at}: twice"));
        }
        let namespace = json!(name.1);
        let spaces = |d: &&Value| text(d, "/kind") == "Namespace" && d.pointer("/metadata/name") == Some(&namespace);
        if name.0 != "Namespace" && !documents.iter().any(|d| spaces(&d)) {
            found.push(format!("{at}: no such namespace"));
        }
    }
    for document in documents {
        let at = format!("{} {}", text(document, "/kind"), text(document, "/metadata/name"));
        let mut note = |what: String| found.push(format!("{at}: {what}"));
        match text(document, "/kind") {
            kind if WORKLOADS.contains(&kind) => workload(document, documents, &mut note),
            "Service" | "PodDisruptionBudget" => selector(document, documents, &mut note),
            "NetworkPolicy" => network(document, documents, &mut note),
            "ConfigMap" | "Namespace" | "PersistentVolumeClaim" => {}
            other => note(format!("unknown kind {other}")),
        }
    }
    let denied = |namespace: &str| {
        documents.iter().any(|d| {
            text(d, "/kind") == "NetworkPolicy"
                && text(d, "/metadata/namespace") == namespace
                && d.pointer("/spec/podSelector") == Some(&json!({}))
                && d.pointer("/spec/policyTypes") == Some(&json!(["Ingress", "Egress"]))
                && d.pointer("/spec/ingress").is_none()
                && d.pointer("/spec/egress").is_none()
        })
    };
    for namespace in documents.iter().filter(|d| text(d, "/kind") == "Namespace") {
        if !denied(text(namespace, "/metadata/name")) {
            found.push(format!("{}: not denied by default", text(namespace, "/metadata/name")));
        }
    }
    found
}

/// The object of that kind and name beside `document`.
fn beside<'a>(documents: &'a [Value], document: &Value, kind: &str, name: &str) -> Option<&'a Value> {
    let namespace = text(document, "/metadata/namespace");
    documents.iter().find(|d| {
        text(d, "/kind") == kind && text(d, "/metadata/name") == name && text(d, "/metadata/namespace") == namespace
    })
}

/// Workloads of this namespace whose pods carry these labels.
fn pods<'a>(documents: &'a [Value], namespace: &str, wanted: &Map<String, Value>) -> Vec<&'a Value> {
    let carries = |d: &&Value| {
        WORKLOADS.contains(&text(d, "/kind"))
            && text(d, "/metadata/namespace") == namespace
            && selects(wanted, &labels(d, "/spec/template/metadata/labels"))
    };
    documents.iter().filter(carries).collect()
}

fn has_port(workload: &Value, port: &Value) -> bool {
    let ports = list(workload, "/spec/template/spec/containers").iter().flat_map(|c| list(c, "/ports"));
    ports.into_iter().any(|p| p.get("name") == Some(port))
}

fn workload(document: &Value, documents: &[Value], note: &mut dyn FnMut(String)) {
    let pod = document.pointer("/spec/template/spec").cloned().unwrap_or_default();
    if let Some(wanted) = document.pointer("/spec/selector/matchLabels").and_then(Value::as_object)
        && !selects(wanted, &labels(document, "/spec/template/metadata/labels"))
    {
        note("selects other pods than its own".into());
    }
    let service = text(document, "/spec/serviceName");
    if !service.is_empty() && beside(documents, document, "Service", service).is_none() {
        note(format!("no service {service}"));
    }
    // Only inside a virtual machine of its own may a pod be root, the guest's: the evidence device belongs to that user.
    let confidential = text(&pod, "/runtimeClassName").starts_with("kata-qemu-");
    let user = if confidential { ("runAsUser", json!(0)) } else { ("runAsNonRoot", json!(true)) };
    if pod["automountServiceAccountToken"] != json!(false) || pod["securityContext"][user.0] != user.1 {
        note("a token is mounted, or it runs as another user than it must".into());
    }
    for volume in list(&pod, "/volumes") {
        let map = text(volume, "/configMap/name");
        if !map.is_empty() && beside(documents, document, "ConfigMap", map).is_none() {
            note(format!("no config map {map}"));
        }
        let claim = text(volume, "/persistentVolumeClaim/claimName");
        if !claim.is_empty() && beside(documents, document, "PersistentVolumeClaim", claim).is_none() {
            note(format!("no claim {claim}"));
        }
    }
    for container in list(&pod, "/containers").iter().chain(list(&pod, "/initContainers")) {
        let (image, program) = (text(container, "/image"), text(container, "/command/0"));
        if image.rsplit_once("@sha256:").is_none_or(|(_, digest)| digest.len() != 64) {
            note(format!("{image} is no image by digest"));
        }
        if !PROGRAMS.contains(&program) {
            note(format!("{program} is not in the image"));
        }
        if confidential {
            enclave(container, &pod, document, documents, note);
        }
        let context = &container["securityContext"];
        if context["allowPrivilegeEscalation"] != json!(false)
            || context["readOnlyRootFilesystem"] != json!(true)
            || context["capabilities"]["drop"] != json!(["ALL"])
        {
            note("keeps rights that it does not need".into());
        }
        for mount in list(container, "/volumeMounts") {
            let name = &mount["name"];
            if !list(&pod, "/volumes").iter().any(|v| v.get("name") == Some(name)) {
                note(format!("mounts {name}, which is no volume"));
            }
        }
        for path in arguments(container).filter_map(|a| a.rsplit('=').next()).filter(|a| a.starts_with('/')) {
            let mounted = |m: &Value| path.starts_with(m["mountPath"].as_str().unwrap_or("\0"));
            let there = list(container, "/volumeMounts").iter().any(mounted);
            // The broker's settings name the policy; the Job that writes them does not read it.
            if !there && !path.ends_with("/policy.toml") {
                note(format!("{path} is on no volume"));
            }
        }
        for probe in ["/readinessProbe/tcpSocket/port", "/readinessProbe/httpGet/port"] {
            if let Some(port) = container.pointer(probe)
                && !has_port(document, port)
            {
                note(format!("is probed on {port}, which it does not have"));
            }
        }
    }
}

/// Where the enclave looks when its first word is `container` (enclave/src/container.rs), and what it is told.
fn enclave(container: &Value, pod: &Value, document: &Value, documents: &[Value], note: &mut dyn FnMut(String)) {
    const PLACES: &str = include_str!("../../enclave/src/container.rs");
    let words: Vec<_> = arguments(container).collect();
    let tee = text(document, "/spec/template/metadata/labels/vouchsafe.example~1tee");
    if words != ["container", &format!("vouchsafe.tee={tee}"), "vouchsafe.mode=hardware"] {
        note(format!("its words are {words:?}"));
    }
    let annotation = "/spec/template/metadata/annotations/io.katacontainers.config.hypervisor.cc_init_data";
    if text(document, annotation).is_empty() {
        note("binds no init-data".into());
    }
    let mounted = |path: &str| {
        let mount = list(container, "/volumeMounts").iter().find(|m| m["mountPath"] == path)?;
        list(pod, "/volumes").iter().find(|v| v["name"] == mount["name"])
    };
    for device in ["/sys/kernel/config", if tee == "tdx" { "/dev/tdx_guest" } else { "/dev/sev-guest" }] {
        if mounted(device).is_none_or(|volume| text(volume, "/hostPath/path") != device) {
            note(format!("{device} is not mounted from the guest"));
        }
    }
    let supplies = mounted("/run/vouchsafe").and_then(|v| {
        beside(documents, document, "ConfigMap", text(v, "/configMap/name")).and_then(|map| map["data"].as_object())
    });
    for name in ["init-data", "collateral.json"] {
        if !PLACES.contains(&format!("\"/run/vouchsafe/{name}\"")) || supplies.is_none_or(|s| !s.contains_key(name)) {
            note(format!("/run/vouchsafe/{name} is not where the enclave looks"));
        }
    }
}

fn arguments(container: &Value) -> impl Iterator<Item = &str> {
    list(container, "/args").iter().filter_map(Value::as_str)
}

fn selector(document: &Value, documents: &[Value], note: &mut dyn FnMut(String)) {
    let mut wanted = labels(document, "/spec/selector");
    if let Some(Value::Object(inner)) = wanted.remove("matchLabels") {
        wanted = inner;
    }
    let pods = pods(documents, text(document, "/metadata/namespace"), &wanted);
    if pods.is_empty() || wanted.is_empty() {
        note("selects no pod".into());
    }
    for port in list(document, "/spec/ports") {
        if !pods.iter().all(|pod| has_port(pod, &port["targetPort"])) {
            note(format!("leads to port {}, which a pod does not have", port["targetPort"]));
        }
    }
}

fn network(document: &Value, documents: &[Value], note: &mut dyn FnMut(String)) {
    let namespace = text(document, "/metadata/namespace");
    let own = labels(document, "/spec/podSelector/matchLabels");
    let selected = pods(documents, namespace, &own);
    if selected.is_empty() {
        note("selects no pod".into());
    }
    for (rules, peers) in [("/spec/ingress", "/from"), ("/spec/egress", "/to")] {
        for rule in list(document, rules) {
            let mut reached: Vec<&Value> = Vec::new();
            for peer in list(rule, peers) {
                let space = labels(peer, "/namespaceSelector/matchLabels");
                let spaces = documents.iter().filter(|d| text(d, "/kind") == "Namespace");
                let spaces = spaces.filter(|d| selects(&space, &labels(d, "/metadata/labels")));
                let wanted = labels(peer, "/podSelector/matchLabels");
                let there: Vec<_> = spaces.flat_map(|d| pods(documents, text(d, "/metadata/name"), &wanted)).collect();
                if there.is_empty() {
                    note(format!("a rule of {rules} reaches no pod"));
                }
                reached.extend(there);
            }
            let answering = if peers == "/from" { &selected } else { &reached };
            for port in list(rule, "/ports") {
                if !answering.iter().all(|pod| has_port(pod, &port["port"])) {
                    note(format!("allows port {}, which a pod does not have", port["port"]));
                }
            }
        }
    }
}

#[test]
fn every_name_in_the_manifests_names_something() {
    let mut here: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    here.sort();
    assert_eq!(here, FILES, "a file that no test reads");
    assert_eq!(problems(&manifests()), Vec::<String>::new());
}

#[test]
fn a_wrong_name_is_noticed() {
    let good = manifests();
    let find = |kind: &str, name: &str| {
        good.iter().position(|d| text(d, "/kind") == kind && text(d, "/metadata/name") == name).unwrap()
    };
    let changes: [(usize, &str, Value); 22] = [
        (find("Deployment", "enclave-snp"), "/metadata/namespace", json!("elsewhere")),
        (find("Deployment", "enclave-snp"), "/spec/selector/matchLabels/app.kubernetes.io~1name", json!("other")),
        (find("Deployment", "enclave-tdx"), "/spec/template/spec/volumes/0/configMap/name", json!("other")),
        (find("Deployment", "enclave-tdx"), "/spec/template/spec/containers/0/volumeMounts/0/name", json!("other")),
        (find("Deployment", "enclave-tdx"), "/spec/template/spec/containers/0/image", json!("vouchsafe:latest")),
        (find("Deployment", "enclave-tdx"), "/spec/template/spec/containers/0/command/0", json!("/bin/sh")),
        (find("Deployment", "enclave-tdx"), "/spec/template/spec/containers/0/args/0", json!("host")),
        (find("Deployment", "enclave-tdx"), "/spec/template/spec/containers/0/args/1", json!("vouchsafe.tee=sev-snp")),
        (
            find("Deployment", "enclave-tdx"),
            "/spec/template/spec/containers/0/args/2",
            json!("vouchsafe.mode=simulation"),
        ),
        (find("Deployment", "enclave-tdx"), "/spec/template/spec/volumes/1/hostPath/path", json!("/sys")),
        (find("Deployment", "enclave-tdx"), "/spec/template/spec/volumes/2/hostPath/path", json!("/dev/kvm")),
        (find("Deployment", "enclave-tdx"), "/spec/template/spec/runtimeClassName", json!("runc")),
        (find("Deployment", "enclave-snp"), "/spec/template/metadata/annotations", json!({})),
        (find("ConfigMap", "enclave-snp-config"), "/data", json!({"config.toml": ""})),
        (find("StatefulSet", "broker"), "/spec/serviceName", json!("other")),
        (find("StatefulSet", "broker"), "/spec/template/spec/containers/0/args/2", json!("/elsewhere")),
        (find("StatefulSet", "broker"), "/spec/template/spec/securityContext/runAsNonRoot", json!(false)),
        (find("Job", "broker-init"), "/spec/template/spec/volumes/0/persistentVolumeClaim/claimName", json!("other")),
        (find("Service", "inference"), "/spec/ports/0/targetPort", json!("other")),
        (find("Service", "broker"), "/spec/selector/app.kubernetes.io~1name", json!("other")),
        (find("NetworkPolicy", "broker"), "/spec/ingress/0/ports/0/port", json!("other")),
        (find("NetworkPolicy", "default-deny"), "/spec/policyTypes", json!(["Ingress"])),
    ];
    for (at, pointer, value) in changes {
        let mut bad = good.clone();
        *bad[at].pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        assert!(!problems(&bad).is_empty(), "{pointer} of {} may be anything", text(&good[at], "/metadata/name"));
    }
}

#[test]
fn both_technologies_are_launched_alike() {
    let documents = manifests();
    let of = |name: &str| {
        let found = documents.iter().find(|d| text(d, "/kind") == "Deployment" && text(d, "/metadata/name") == name);
        found.unwrap().to_string()
    };
    let pairs = [
        ("enclave-snp", "enclave-tdx"),
        ("kata-qemu-snp", "kata-qemu-tdx"),
        ("/dev/sev-guest", "/dev/tdx_guest"),
        ("sev-snp", "tdx"),
    ];
    let translated = pairs.iter().fold(of("enclave-snp"), |text, (snp, tdx)| text.replace(snp, tdx));
    assert_eq!(translated, of("enclave-tdx"));
    for program in PROGRAMS {
        let dockerfile = fs::read_to_string(folder().join("../../Dockerfile")).unwrap();
        let chore = fs::read_to_string(folder().join("../../xtask/src/container.rs")).unwrap_or_default();
        let name = program.rsplit('/').next().unwrap();
        assert!(dockerfile.contains(name) || chore.contains(name), "{name} is in no image");
    }
}
