//! What small images of odd shapes cost at the default budgets. Counted in system calls, since clocks lie on a busy
//! machine, and without those for memory: malloc(3) takes a large buffer from the heap or from mmap(2) as the order of
//! the threads' calls has it. `scripts/soak shapes` is the form that takes the time, of images as large as a mebibyte
//! may hold.

mod archive;
mod scene;
mod shapes;

use archive::{Block, END};

use std::process::Command;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use scene::{Scene, UNPACK, has, skip, text};

const MEBIBYTE: usize = 1 << 20;
/// More things than this in one image are over the default budget.
const MOST: usize = 512 << 10;

#[test]
fn what_an_image_costs_grows_as_it_does_whatever_its_shape() {
    if !has("strace") {
        return skip("needs strace");
    }
    let mut steeper = Vec::new();
    for shape in shapes::all() {
        let [one, two, four] = [250, 500, 1000].map(|number| calls(&(shape.make)(number)));
        let told = format!("{}: {one}, {two}, {four} system calls", shape.what);
        println!("{told}");
        let linear = four.saturating_sub(two) <= two.saturating_sub(one) * 5 / 2 + 500;
        if !linear || four > 40 * 1000 {
            steeper.push(told);
        }
    }
    assert_eq!(steeper, Vec::<String>::new());
}

fn calls(image: &[u8]) -> u64 {
    let scene = Scene::new();
    scene.write("image", image);
    let count = [
        "-f",
        "-c",
        "-e",
        "trace=!futex,sched_yield,%memory",
        "-o",
        "calls",
        UNPACK,
        "-q",
        "--limit",
        "entries=1M",
        "image",
        "root",
    ];
    let output = Command::new("strace").args(count).current_dir(scene.path("")).output().unwrap();
    let stderr = text(&output.stderr);
    assert!(output.status.success() || stderr.contains("more than"), "{stderr}");
    let calls = std::fs::read_to_string(scene.path("calls")).unwrap();
    let total = calls.lines().rfind(|line| line.ends_with("total")).unwrap();
    total.split_whitespace().nth(3).unwrap().parse().unwrap()
}

fn directories(number: usize) -> Vec<u8> {
    [Block::new("d", b'5').mode(0o755).bytes().repeat(number), END.to_vec()].concat()
}

#[test]
fn a_small_image_of_many_entries_is_over_the_budget_and_a_large_one_is_not() {
    let (plain, packed) = (directories(120_000), shapes::gzip(&directories(120_000)));
    let scene = Scene::new();
    let message = scene.refused(&packed, &[]);
    assert!(message.contains("entries of the image") && message.contains("--limit entries"), "{message}");
    // From a pipe it is in proportion to what was read until then.
    assert!(scene.failed_pipe(&packed).contains("--limit entries"));
    scene.extracted(&packed, &["--limit", "entries=120032"]);
    scene.extracted(&plain, &["--replace"]);
}

#[test]
fn what_an_entry_implies_counts_as_entries_do() {
    let deep = |number: usize| -> Vec<u8> {
        let paths = (0..number).map(|i| format!("{i}/{}f", "d/".repeat(200)));
        let files = paths.map(|path| [archive::long(&path), Block::file("f", b"").bytes()].concat());
        files.chain([END.to_vec()]).flatten().collect()
    };
    let scene = Scene::new();
    let message = scene.refused(&deep(20), &["--limit", "entries=10000"]);
    assert!(message.contains("what they imply"), "{message}");
    scene.extracted(&deep(2), &["--limit", "entries=10000"]);
    let attributes: Vec<_> = (0..1000).map(|i| archive::record(&format!("SCHILY.xattr.user.{i}"), "1")).collect();
    let file = [archive::extended(&attributes), Block::file("f", b"").bytes()].concat();
    let message = Scene::new().refused(&[file, END.to_vec()].concat(), &["--limit", "entries=1000"]);
    assert!(message.contains("--limit entries"), "{message}");
}

/// 256 levels of fifteen letters are as long as a path may be for open(2).
#[test]
fn as_deep_as_paths_are_in_use_is_no_matter_of_options() {
    let nested = |levels: usize| {
        let path = format!("{}f", "d/".repeat(levels - 1));
        [archive::long(&path), Block::file("f", b"").bytes(), END.to_vec()].concat()
    };
    let scene = Scene::new();
    scene.extracted(&nested(256), &[]);
    let message = Scene::new().refused(&nested(257), &[]);
    assert!(message.contains("more than 256") && message.contains("--limit depth"), "{message}");
}

/// The form that takes time, for `scripts/soak shapes`: the ten shapes that take the most of it.
#[test]
fn the_worst_of_a_mebibyte() {
    if std::env::var_os("UNPACK_TEST_SHAPES").is_none() {
        return;
    }
    let mut costs: Vec<_> = shapes::all().iter().map(cost).collect();
    costs.sort_by_key(|cost| std::cmp::Reverse(cost.0));
    println!("processor ms   real ms   stored   things   shape, and what became of it");
    for (used, real, stored, number, what) in costs.iter().take(10) {
        println!("{used:12} {real:9} {stored:8} {number:8}   {what}");
    }
}

fn cost(shape: &shapes::Shape) -> (i64, u128, usize, usize, String) {
    let sizes = std::iter::successors(Some(4096), |number| Some(number * 2)).take_while(|number| *number <= MOST);
    let made = sizes.map(|number| (number, (shape.make)(number))).take_while(|(_, image)| image.len() <= MEBIBYTE);
    let (number, image) = made.last().expect("a small one of each shape");
    let scene = Scene::new();
    scene.write("image", &image);
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
        let times = [usage.user_time(), usage.system_time()];
        times.iter().map(|time| time.tv_sec() * 1000 + time.tv_usec() / 1000).sum::<i64>()
    };
    let (before, begin) = (used(), Instant::now());
    let output = Command::new(UNPACK).args(["-q", "image", "root"]).current_dir(scene.path("")).output().unwrap();
    let (real, used) = (begin.elapsed().as_millis(), used() - before);
    let stderr = text(&output.stderr);
    let end = match output.status.success() {
        true => "whole".to_owned(),
        false => stderr.lines().last().unwrap_or_default().chars().take(150).collect(),
    };
    println!("{used:12} {real:9} {:8} {number:8}   {}: {end}", image.len(), shape.what);
    (used, real, image.len(), number, format!("{}: {end}", shape.what))
}
