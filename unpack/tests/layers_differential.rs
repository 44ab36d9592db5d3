//! Random stacks of layers: ours are what a model of the image specification says, and umoci's tree is the same, or
//! differs in one of the ways that docs/differences.md lists.

mod archive;
mod layout;
mod scene;
mod snapshot;
mod stacks;

use std::collections::BTreeMap;
use std::process::Command;

use layout::layout;
use scene::{Scene, has, is_root, skip, text};
use stacks::model::Model;
use stacks::{seeds, told};

fn differing(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) -> String {
    let all: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let lines = all
        .into_iter()
        .filter(|path| ours.get(*path) != theirs.get(*path))
        .map(|path| format!("{path:?}\n  is:     {:?}\n  should: {:?}\n", ours.get(path), theirs.get(path)));
    lines.collect()
}

/// A directory that nobody spoke of has the time of umoci's run.
fn without_now(snapshot: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let line = |line: String| {
        let mut words: Vec<&str> = line.split(' ').collect();
        if words[3].split('.').next().and_then(|time| time.parse::<i64>().ok()).is_some_and(|time| time > 1_500_000_000)
        {
            words[3] = "now";
        }
        words.join(" ")
    };
    snapshot.into_iter().map(|(path, text)| (path, line(text))).collect()
}

#[test]
fn random_stacks_are_what_the_specification_says_and_what_umoci_makes_of_them() {
    if !is_root() || !has("umoci") {
        return skip("needs root and umoci");
    }
    let what = snapshot::What::default();
    let scene = Scene::new();
    let (mut same, mut allowed, mut refused) = (0, BTreeMap::new(), BTreeMap::new());
    let mut wrong = Vec::new();
    for seed in seeds(300) {
        let stack = stacks::stack(seed);
        layout(&scene, &stack.iter().map(|layer| stacks::packed(layer)).collect::<Vec<_>>());
        for name in ["root", "theirs"] {
            let _ = std::fs::remove_dir_all(scene.path(name));
        }
        let output = scene.unpack(&["-q", "--replace", "oci", "root"]);
        let found = output.status.success().then(|| snapshot::of(&scene.path("root"), what));
        let should = Model::of(&stack, false);
        match (&found, &should) {
            (Some(found), Ok(model)) if *found == model.snapshot() => {}
            (None, Err(_)) => {}
            (found, model) => wrong.push(format!(
                "seed {seed}: ours\n{}{}\nthe model: {:?}\n{}",
                found.as_ref().zip(model.as_ref().ok()).map_or(String::new(), |(f, m)| differing(f, &m.snapshot())),
                text(&output.stderr),
                model.as_ref().err(),
                told(&stack)
            )),
        }
        // A mask of 022 for the directories that nobody speaks of.
        let umoci = Command::new("sh")
            .args(["-c", "umask 022; exec umoci raw unpack --image oci:latest theirs"])
            .current_dir(scene.path(""))
            .output()
            .unwrap();
        let theirs = umoci.status.success().then(|| without_now(snapshot::of(&scene.path("theirs"), what)));
        match (theirs, Model::of(&stack, true)) {
            (Some(theirs), Ok(model)) if theirs == model.snapshot() => {
                if found.as_ref() == Some(&theirs) {
                    same += 1;
                }
                model.differs.iter().for_each(|way| *allowed.entry(*way).or_insert(0) += 1);
            }
            (None, Err(why)) => *refused.entry(why).or_insert(0) += 1,
            (theirs, model) => wrong.push(format!(
                "seed {seed}: umoci\n{}{}\nthe model of umoci: {:?}\n{}",
                theirs.zip(model.as_ref().ok()).map_or(String::new(), |(t, m)| differing(&t, &m.snapshot())),
                text(&umoci.stderr),
                model.err(),
                told(&stack)
            )),
        }
    }
    eprintln!("{same} the same; {allowed:?}; refused by umoci: {refused:?}; {} wrong", wrong.len());
    wrong.iter().for_each(|wrong| eprintln!("{}", wrong.lines().next().unwrap_or_default()));
    assert!(wrong.is_empty(), "{}", wrong[..wrong.len().min(3)].join("\n"));
}
