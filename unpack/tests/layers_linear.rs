//! What a layer costs grows with its entries and no faster. Counted in system calls, since clocks lie on a busy machine;
//! the processor time is printed beside.

mod archive;
mod entries;
mod layout;
mod scene;

use std::process::Command;

use archive::Block;
use entries::{dir, file, packed, symlink};
use layout::layout;
use scene::{Scene, UNPACK, has, is_root, skip, text};

/// System calls of an extraction, and its processor time in milliseconds.
fn cost(scene: &Scene, layers: &[Vec<Block>]) -> (u64, u64) {
    layout(scene, &layers.iter().map(|layer| packed(layer)).collect::<Vec<_>>());
    let run = |script: &str| {
        let script = format!("rm -rf root root.image.json; {script} {UNPACK} -q oci root >/dev/null");
        let output = Command::new("bash").args(["-c", &script]).current_dir(scene.path("")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    run("strace -f -c -e trace='!futex,sched_yield' -o calls");
    let calls = std::fs::read_to_string(scene.path("calls")).unwrap();
    let total = calls.lines().rfind(|line| line.ends_with("total")).unwrap().split_whitespace().nth(3).unwrap();
    let time = run("TIMEFORMAT='%U %S'; time");
    let seconds = time.split_whitespace().map(|part| part.parse::<f64>().unwrap()).sum::<f64>();
    (total.parse().unwrap(), (seconds * 1000.0) as u64)
}

fn is_linear(what: &str, stack: impl Fn(usize) -> Vec<Vec<Block>>, usual: usize) {
    if !has("strace") {
        return skip("needs strace");
    }
    let scene = Scene::new();
    // 60,000 with UNPACK_TEST_LINEAR=16.
    let times: usize = std::env::var("UNPACK_TEST_LINEAR").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let number = usual * times;
    let costs = [1, 2, 4].map(|n| cost(&scene, &stack(number * n)));
    eprintln!("{what}, {number}, twice, four times: {costs:?} (system calls, ms)");
    let [one, two, four] = costs.map(|(calls, _)| calls);
    assert!(four - two <= (two - one) * 5 / 2, "{what}: {costs:?}");
}

fn base(number: usize) -> Vec<Block> {
    let mut base = vec![dir("d"), dir("d/below"), symlink("link", "d")];
    base.extend((0..number).map(|number| file(&format!("d/{number}"), "")));
    base
}

#[test]
fn whiteouts_cost_as_much_as_there_are_of_them() {
    let stack = |number: usize| {
        let whiteouts = (0..number).map(|number| file(&format!("d/.wh.{number}"), ""));
        vec![base(number), whiteouts.collect()]
    };
    is_linear("whiteouts of files", stack, 900);
}

#[test]
fn whiteouts_of_directories_and_in_deep_ones_cost_as_much_as_there_are_of_them() {
    let stack = |number: usize| {
        let directories = (0..number).map(|number| dir(&format!("d/e/f/g/{number}")));
        let whiteouts = (0..number).map(|number| file(&format!("d/e/f/g/.wh.{number}"), ""));
        vec![directories.collect(), whiteouts.collect()]
    };
    is_linear("whiteouts of directories", stack, 900);
}

#[test]
fn opaque_markers_behind_a_link_cost_as_much_as_there_are_of_them() {
    let stack = |number: usize| {
        let new = (0..number).map(|number| file(&format!("link/new{number}"), ""));
        let markers = (0..number).map(|_| file("link/.wh..wh..opq", ""));
        vec![base(number), new.zip(markers).flat_map(|(new, marker)| [new, marker]).collect()]
    };
    is_linear("opaque markers behind a link", stack, 500);
}

#[test]
fn whiteouts_of_what_the_layer_itself_has_made_cost_as_much_as_there_are_of_them() {
    let stack = |number: usize| {
        let mut layer: Vec<_> = (0..number).map(|number| file(&format!("d/new{number}"), "")).collect();
        layer.extend((0..number).flat_map(|_| [file(".wh.d", ""), file("d/.wh.below", "")]));
        vec![base(number), layer]
    };
    is_linear("whiteouts of a live directory", stack, 500);
}

#[test]
fn links_that_wait_for_each_other_cost_as_much_as_there_are_of_them() {
    if !is_root() {
        return skip("fs.protected_hardlinks is no matter of root's");
    }
    let stack = |number: usize| {
        let mut layer: Vec<_> =
            (0..number).map(|number| entries::hard_link(&format!("l{number}"), &format!("l{}", number + 1))).collect();
        layer.push(file(&format!("l{number}"), "x"));
        vec![layer]
    };
    is_linear("hard links in a chain", stack, 500);
}

#[test]
fn one_name_again_and_again_costs_as_much_as_there_are_of_it() {
    is_linear("one name", |number| vec![(0..number).map(|_| file("same", "x")).collect()], 500);
    let in_turn = |number: usize| vec![(0..number).flat_map(|_| [dir("d"), file("d/e", ""), file("d", "")]).collect()];
    is_linear("a directory and a file in turn", in_turn, 300);
}

#[test]
fn deep_directories_cost_as_much_as_there_are_of_them() {
    // As deep as a header's name of 100 bytes goes.
    let deep = ["d"; 40].join("/");
    let stack = |number: usize| vec![(0..number).map(|number| file(&format!("{deep}/{number}/f"), "")).collect()];
    is_linear("deep directories", stack, 300);
}

#[test]
fn files_through_links_and_hard_links_to_one_file_cost_as_much_as_there_are_of_them() {
    let through = |number: usize| {
        let mut layer: Vec<_> =
            (0..39).map(|number| symlink(&format!("l{number}"), &format!("l{}", number + 1))).collect();
        layer.push(dir("l39"));
        layer.extend((0..number).map(|number| file(&format!("l0/{number}"), "")));
        vec![layer]
    };
    is_linear("files through 39 links", through, 500);
    let links = |number: usize| {
        let hard = |number| entries::hard_link(&format!("h{number}"), "f");
        vec![std::iter::once(file("f", "x")).chain((0..number).map(hard)).collect()]
    };
    is_linear("hard links to one file", links, 500);
}
