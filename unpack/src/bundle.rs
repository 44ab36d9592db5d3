//! An OCI runtime bundle around a root: config.json after the image specification's conversion, except for what would let
//! the image give the runtime orders.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use chain::account::{self, Sort};
use chain::{Tool, WithHint, defaults, warn};
use rustix::fs::{Mode, OFlags};
use serde_json::{Map, Value, json};

use crate::receipt::{Standing, standing};

const CONFIG: &str = "config.json";

/// A configuration without a root beside it is not unpack's, and one that others can exchange is not for a runtime.
pub fn may_be_written(bundle: &Path, root: &Path) -> Result<()> {
    let stat = rustix::fs::stat(bundle).with_context(|| bundle.display().to_string())?;
    if let Some(others) = chain::receipt::others(stat.st_uid, stat.st_mode) {
        return Err(anyhow!("{}: {others}, who could change what a runtime is to run", bundle.display()))
            .hint("name a directory that only you can write");
    }
    let config = bundle.join(CONFIG);
    if root.symlink_metadata().is_err() && config.symlink_metadata().is_ok() {
        return Err(anyhow!("{}: exists and unpack did not make it", config.display()))
            .hint("move it away or name another DIR");
    }
    Ok(())
}

/// Writes `config.json` into the bundle, from its root's receipt. One that says something else may have been edited, and
/// is overwritten with `replace` alone.
pub fn write(bundle: &Path, root: &Path, replace: bool) -> Result<()> {
    let Standing::Root(receipt) = standing(root)? else {
        bail!("{}: became something else meanwhile", root.display());
    };
    let config = serde_json::to_vec_pretty(&runtime_config(&receipt["config"], root)?)?;
    let path = bundle.join(CONFIG);
    if !replace && !is_free_or_holds(&path, &config) {
        return Err(anyhow!("{}: exists and differs from what the image says", path.display()))
            .hint("--replace makes it and the root again; move it away to get the image's");
    }
    let part = bundle.join(format!(".config.json-{}", std::process::id()));
    let written = File::create_new(&part)
        .and_then(|mut file| file.write_all(&config))
        .and_then(|()| std::fs::rename(&part, &path));
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written.with_context(|| path.display().to_string())?;
    tell(&receipt["config"]["config"], &path);
    Ok(())
}

/// A FIFO of that name is not waited for.
fn is_free_or_holds(path: &Path, text: &[u8]) -> bool {
    match path.symlink_metadata() {
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        Ok(found) => found.is_file() && std::fs::read(path).is_ok_and(|there| there == text),
    }
}

fn runtime_config(image: &Value, root: &Path) -> Result<Value> {
    let config = &image["config"];
    let mut args = [strings(&config["Entrypoint"]), strings(&config["Cmd"])].concat();
    if args.is_empty() {
        args.push("sh".into());
    }
    let mut env = strings(&config["Env"]);
    if !env.iter().any(|variable| variable.starts_with("PATH=")) {
        env.push(format!("PATH={}", defaults::PATH));
    }
    let cwd = config["WorkingDir"].as_str().filter(|dir| dir.starts_with('/')).unwrap_or("/");
    let rootless = !rustix::process::geteuid().is_root();
    let capabilities: Vec<_> = defaults::CAPABILITIES.iter().map(|name| format!("CAP_{name}")).collect();
    let in_proc = |names: &[&str]| names.iter().map(|name| format!("/proc/{name}")).collect::<Vec<_>>();
    let hidden = [in_proc(&defaults::HIDDEN_IN_PROC), defaults::HIDDEN_IN_SYS.map(String::from).to_vec()].concat();
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": user(config["User"].as_str().unwrap_or_default(), root)?,
            "args": args,
            "env": env,
            "cwd": cwd,
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs" },
        "hostname": "bundle",
        "mounts": mounts(config, rootless),
        "annotations": annotations(image),
        "linux": {
            "namespaces": namespaces(rootless),
            "maskedPaths": hidden,
            "readonlyPaths": in_proc(&defaults::READ_ONLY_IN_PROC),
        },
    });
    if rootless {
        let user = &spec["process"]["user"];
        let others = ["uid", "gid", "additionalGids"].iter().any(|id| user[id] != 0 && user[id] != json!([]));
        let map = |id: u32, sort| [vec![mapping(0, id, 1)], subordinate(sort, others)].concat();
        let uids = map(rustix::process::geteuid().as_raw(), Sort::User);
        let gids = map(rustix::process::getegid().as_raw(), Sort::Group);
        spec["linux"]["uidMappings"] = uids.into();
        spec["linux"]["gidMappings"] = gids.into();
    } else {
        spec["linux"]["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    }
    Ok(spec)
}

fn mapping(inside: u32, outside: u32, size: u32) -> Value {
    json!({ "containerID": inside, "hostID": outside, "size": size })
}

/// The caller's first range of subordinate ids (subuid(5)), if the container needs a user other than root. The runtime
/// then needs newuidmap(1), and otherwise does not.
fn subordinate(sort: Sort, wanted: bool) -> Vec<Value> {
    if !wanted {
        return Vec::new();
    }
    let ranges = account::subordinate(sort, rustix::process::geteuid().as_raw()).unwrap_or_default();
    ranges.first().map(|&(first, count)| mapping(1, first, count)).into_iter().collect()
}

fn namespaces(rootless: bool) -> Value {
    let mut kinds = vec!["pid", "ipc", "uts", "mount"];
    // Without root a new network namespace would leave the container without any network at all.
    kinds.push(if rootless { "user" } else { "network" });
    kinds.into_iter().map(|kind| json!({ "type": kind })).collect()
}

fn mounts(config: &Value, rootless: bool) -> Value {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    // In a user namespace of one id, tty's group is not mapped.
    let pts: &[&str] = match rootless {
        true => &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        false => &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", pts),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    // sysfs belongs to a network namespace, which the user has to own to mount it.
    mounts.push(match rootless {
        true => mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]),
        false => mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    });
    for volume in keys(&config["Volumes"]).filter(|volume| is_volume(volume)) {
        mounts.push(mount(volume, "tmpfs", "none", &["nosuid", "nodev", "noexec", "relatime"]));
    }
    mounts.into()
}

/// Annotations that give orders to runc, crun, gVisor, Kata and podman's hooks: properties of the systemd unit, programs
/// and files on the host, another runtime (runtime-spec, potentiallyUnsafeConfigAnnotations).
const ORDERS: [&str; 13] = [
    "run.oci.",
    "io.crun.",
    "org.systemd.property.",
    "org.criu.",
    "org.opencontainers.runc.",
    "module.wasm.",
    "dev.gvisor.",
    "io.katacontainers.",
    "com.github.containers.",
    "io.kubernetes.",
    "io.podman.",
    "io.containers.",
    "cdi.k8s.io/",
];

fn commands_runtime(label: &str) -> bool {
    ORDERS.iter().any(|prefix| label.starts_with(prefix)) || label.contains("hook")
}

/// A directory inside the image. A tmpfs at / would hide the image, and one at /proc or /dev what the runtime guards there.
fn is_volume(path: &str) -> bool {
    let mut names = path.split('/').filter(|name| !name.is_empty());
    let top = names.clone().next();
    path.starts_with('/')
        && !names.any(|name| name == "." || name == "..")
        && top.is_some_and(|top| !["proc", "sys", "dev"].contains(&top))
}

fn keys(object: &Value) -> impl Iterator<Item = &String> {
    object.as_object().into_iter().flat_map(Map::keys)
}

/// What the image asked for and did not get.
fn tell(config: &Value, path: &Path) {
    let without = |what: &str, names: Vec<&String>| {
        if let Some(first) = names.first() {
            let more = if names.len() > 1 { ", …" } else { "" };
            warn(Tool::Unpack, format_args!("{}: without {} {what}: {first}{more}", path.display(), names.len()));
        }
    };
    without("labels that a runtime acts on", keys(&config["Labels"]).filter(|key| commands_runtime(key)).collect());
    without(
        "volumes that are no directory of the image's own",
        keys(&config["Volumes"]).filter(|path| !is_volume(path)).collect(),
    );
}

/// The annotations that the image specification's conversion.md asks for.
fn annotations(image: &Value) -> Value {
    let mut annotations = Map::new();
    for key in ["os", "architecture", "variant", "author", "created"] {
        if let Some(value) = image[key].as_str() {
            annotations.insert(format!("org.opencontainers.image.{key}"), value.into());
        }
    }
    if let Some(signal) = image["config"]["StopSignal"].as_str() {
        annotations.insert("org.opencontainers.image.stopSignal".into(), signal.into());
    }
    if let Some(ports) = image["config"]["ExposedPorts"].as_object() {
        let ports: Vec<_> = ports.keys().map(String::as_str).collect();
        annotations.insert("org.opencontainers.image.exposedPorts".into(), ports.join(",").into());
    }
    // An explicit label has the last word.
    for (key, value) in image["config"]["Labels"].as_object().into_iter().flatten() {
        if let Some(value) = value.as_str().filter(|_| !commands_runtime(key)) {
            annotations.insert(key.clone(), value.into());
        }
    }
    annotations.into()
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn user(text: &str, root: &Path) -> Result<Value> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = crate::retry_eintr::open(root, flags, Mode::empty()).with_context(|| root.display().to_string())?;
    let ids = account::in_root(text, &root).hint("unpack without --bundle and write the configuration by hand")?.ids;
    Ok(json!({ "uid": ids.uid, "gid": ids.gid, "additionalGids": ids.groups }))
}
