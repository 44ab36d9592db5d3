//! unpack writes the capabilities of container runtimes into its bundles, and isolate knows them as
//! `default`: no tool knows the other, and they mean the same.

use std::fs;

use chainroot_tests::{Work, busybox_image};

#[test]
fn a_bundles_capabilities_are_isolates_default() {
    let work = Work::new();
    let outcome = work.sh(&format!("unpack --quiet --bundle bundle '{}' >&2", busybox_image().display()));
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let config = fs::read_to_string(work.join("bundle/config.json")).expect("config.json");
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    let names = |set: &str| {
        let names = config["process"]["capabilities"][set].as_array().expect(set);
        names.iter().map(|name| name.as_str().expect("a name")).collect::<Vec<_>>().join(",")
    };
    let bounds = |list: &str| {
        let grep = "grep -E '^Cap(Bnd|Prm|Eff)' /proc/self/status";
        let outcome = work.sh(&format!("isolate {} --cap-keep {list} -- {grep}", work.user()));
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
        outcome.stdout
    };
    assert_eq!(names("bounding").split(',').count(), 14);
    for set in ["bounding", "permitted", "effective"] {
        assert_eq!(bounds(&names(set)), bounds("default"), "{set}");
    }
}
