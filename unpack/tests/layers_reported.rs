//! Layers that other tools have applied wrongly, as their reports describe them.

mod archive;
mod entries;
mod layout;
mod scene;

use archive::Block;
use entries::{Layer, dir, file, hard_link, symlink, tree};
use scene::Scene;

fn becomes(layers: &[Layer], expected: &[&str]) {
    assert_eq!(tree(&Scene::new(), layers), expected);
}

/// <https://github.com/apptainer/singularity/pull/1605>
#[test]
fn a_whiteout_of_an_absolute_link_takes_the_link_and_not_its_target() {
    let base = vec![file("usr/share/zoneinfo/UTC", "z"), symlink("etc/localtime", "/usr/share/zoneinfo/UTC")];
    let left = ["etc/", "usr/", "usr/share/", "usr/share/zoneinfo/", "usr/share/zoneinfo/UTC=z"];
    becomes(&[base, vec![file("etc/.wh.localtime", "")]], &left);
}

/// <https://github.com/anchore/stereoscope/pull/694>
#[test]
fn an_opaque_directory_in_place_of_a_link_hides_nothing_where_the_link_led() {
    let base = vec![file("target/keep.txt", "k"), symlink("link", "/target")];
    let upper = vec![dir("link"), file("link/.wh..wh..opq", ""), file("link/new.txt", "n")];
    becomes(&[base, upper], &["link/", "link/new.txt=n", "target/", "target/keep.txt=k"]);
}

/// <https://github.com/GoogleContainerTools/kaniko/issues/2308>
#[test]
fn a_whiteout_in_a_directory_that_becomes_a_link_makes_no_directory() {
    let base = vec![dir("a"), file("a/a", "1")];
    becomes(&[base, vec![file("a/.wh.a", ""), dir("./"), symlink("a", "b"), dir("b")]], &["a -> b", "b/"]);
}

/// <https://github.com/GoogleContainerTools/kaniko/issues/1149> and
/// <https://github.com/containerd/containerd/issues/4659>
#[test]
fn a_whiteout_in_a_directory_that_no_layer_has_means_nothing() {
    let base = vec![file("usr/local/bin/x", "1"), file("tmp/cache/y", "1")];
    let upper = vec![file("test/.wh.testfile", ""), file("tmp/.wh.cache", ""), file("tmp/cache/.wh.y", "")];
    becomes(&[base, upper], &["tmp/", "usr/", "usr/local/", "usr/local/bin/", "usr/local/bin/x=1"]);
}

/// <https://github.com/GoogleContainerTools/kaniko/issues/3442>
#[test]
fn a_link_becomes_a_directory_whose_old_target_goes() {
    let base = vec![dir("stuff"), file("stuff/old", "1"), symlink("things", "stuff")];
    let (whiteout, new) = (vec![file(".wh.stuff", "")], vec![dir("things"), file("things/new", "2")]);
    for upper in [[whiteout.clone(), new.clone()].concat(), [new, whiteout].concat()] {
        becomes(&[base.clone(), upper], &["things/", "things/new=2"]);
    }
}

/// <https://github.com/GoogleContainerTools/kaniko/issues/282>
#[test]
fn one_of_two_hard_links_becomes_a_symlink_to_the_other() {
    let base = vec![file("bin/git", "git"), hard_link("core/git", "bin/git")];
    becomes(&[base, vec![symlink("bin/git", "/core/git")]], &["bin/", "bin/git -> /core/git", "core/", "core/git=git"]);
}

/// <https://github.com/GoogleContainerTools/kaniko/issues/380>
#[test]
fn a_link_takes_the_place_of_a_directory_that_is_not_empty() {
    let base = vec![file("opt/deployments/war", "1"), dir("opt/deployments/deep/er")];
    becomes(&[base, vec![symlink("opt/deployments", "/deployments")]], &["opt/", "opt/deployments -> /deployments"]);
}

/// <https://github.com/hpc/charliecloud/issues/825>: one layer, both kinds.
#[test]
fn a_later_link_of_one_layer_takes_the_place_of_its_directory() {
    let layer =
        vec![dir("data"), file("data/import/README", "r"), dir("var/lib/data"), symlink("data", "/var/lib/data")];
    becomes(&[layer], &["data -> /var/lib/data", "var/", "var/lib/", "var/lib/data/"]);
}

/// <https://github.com/apple/containerization/pull/777>
#[test]
fn a_hard_links_parents_are_made() {
    let layer = vec![file("f", "x"), hard_link("a/b/link", "f")];
    becomes(&[layer], &["a/", "a/b/", "a/b/link=x", "f=x"]);
}

/// <https://github.com/bazel-contrib/rules_oci/issues/857>
#[test]
fn a_file_below_a_link_goes_where_it_leads_and_a_directory_replaces_it() {
    let base = vec![file("usr/lib/libc.so", "c"), symlink("lib", "usr/lib")];
    let through = ["lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/driver.so=d", "usr/lib/libc.so=c"];
    becomes(&[base.clone(), vec![file("lib/driver.so", "d")]], &through);
    let replaced = ["lib/", "lib/driver.so=d", "usr/", "usr/lib/", "usr/lib/libc.so=c"];
    becomes(&[base, vec![dir("lib"), file("lib/driver.so", "d")]], &replaced);
}

/// <https://github.com/NixOS/nixpkgs/issues/107021>: a store path through a link that another layer brings.
#[test]
fn a_later_layers_link_replaces_the_directory_that_was_implied_for_its_name() {
    let layers =
        [vec![file("store/link/dir/real", "1")], vec![symlink("store/link", "/store/real"), dir("store/real")]];
    becomes(&layers, &["store/", "store/link -> /store/real", "store/real/"]);
    let other_way_round = [layers[1].clone(), layers[0].clone()];
    let through = ["store/", "store/link -> /store/real", "store/real/", "store/real/dir/", "store/real/dir/real=1"];
    becomes(&other_way_round, &through);
}

/// <https://github.com/opencontainers/image-spec/issues/196> and
/// <https://github.com/opencontainers/image-spec/pull/171>
#[test]
fn an_opaque_marker_means_the_same_first_and_last() {
    let base = vec![dir("a/b/c"), file("a/b/c/bar", "1")];
    let upper = vec![file("a/.wh..wh..opq", ""), dir("a/b"), dir("a/b/c"), file("a/b/c/foo", "2")];
    for upper in [upper.clone(), upper.into_iter().rev().collect()] {
        becomes(&[base.clone(), upper], &["a/", "a/b/", "a/b/c/", "a/b/c/foo=2"]);
    }
}

/// <https://github.com/opencontainers/umoci/issues/222> and
/// <https://github.com/apptainer/singularity/issues/1060>, which ordinary users saw.
#[test]
fn what_nobody_may_write_is_replaced_and_added_to() {
    let base = vec![Block::file("etc/gshadow", b"1").mode(0), dir("usr/lib64").mode(0o555), file("usr/lib64/a", "1")];
    let upper = vec![file("etc/gshadow", "2"), symlink("usr/lib64/libICE.so.6", "libICE.so.6.3.0")];
    let left = ["etc/", "etc/gshadow=2", "usr/", "usr/lib64/", "usr/lib64/a=1"];
    becomes(&[base, upper], &[&left[..], &["usr/lib64/libICE.so.6 -> libICE.so.6.3.0"]].concat());
}

/// <https://github.com/moby/go-archive/pull/54>
#[test]
fn what_aufs_kept_hides_nothing() {
    let base = vec![file(".plnk", "1"), file("a", "1")];
    becomes(&[base, vec![dir(".wh..wh.plnk"), file(".wh..wh.aufs", "")]], &[".plnk=1", "a=1"]);
}
