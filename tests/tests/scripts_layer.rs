//! scripts/layer and scripts/image: what a container has changed, as a layer of an image that others read.

use chainroot_tests::{Work, busybox_image, have, is_root, needs_root, script, skip};

/// Changes of every kind that an overlay marks in a way of its own, and names that a list of files must not break.
const CHANGES: &str = r#"echo new >/etc/new; rm /etc/image; rm /bin/yes; mkdir /bin/yes; touch /bin/yes/in
    mkdir /usr/deep; rm -r /usr; mkdir -p /usr/x; echo y >/usr/x/y; ln /usr/x/y /usr/z; rm -r /var; echo file >/var; rm -r /sbin
    ln -s nowhere /tmp/link; mkfifo /tmp/pipe; chmod 700 /root; touch -d "2001-02-03 04:05:06" /root
    touch "/tmp/a b\\c
d" "/tmp/-n"; mkdir "/tmp/new
line"; chown 0:0 /dev; touch -d "1999-01-01 00:00:00" /"#;

/// A root of busybox, and `changes` over it.
fn changed(work: &Work) {
    work.sh(&format!("unpack --quiet '{}' root >/dev/null", busybox_image().display())).expect(0, "");
    let user = work.user();
    work.sh(&format!("isolate {user} --pid -- pivot --no-handoff --overlay changes root -- sh -c '{CHANGES}'"))
        .expect(0, "");
}

/// The tree that a container finds over the changes, packed by tar as `merged.tar`.
fn merged(work: &Work, upper: &str) {
    let (user, userxattr) = (work.user(), if is_root() { "" } else { ",userxattr" });
    work.sh(&format!(
        "mkdir -p merged kernels; isolate {user} --mount -- sh -ec '
            mount -t overlay -o lowerdir=root,upperdir={upper},workdir=kernels{userxattr} overlay merged
            tar --numeric-owner --xattrs --xattrs-include=\"*\" --acls -cf merged.tar -C merged .' && chmod -R u+rwx kernels"
    ))
    .expect(0, "");
}

fn digest(work: &Work, image: &str) -> String {
    let outcome = work.sh(&format!("unpack --quiet --digest {image} digested && rm -r digested*"));
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{image}");
    outcome.stdout
}

#[test]
fn an_image_with_the_changes_on_top_is_the_tree_that_the_container_had() {
    let work = Work::new();
    changed(&work);
    merged(&work, "changes/upper");
    let (layer, image) = (script("layer"), script("image"));
    let base = busybox_image().display().to_string();
    work.sh(&format!("{layer} changes layer.tar && {image} '{base}' layer.tar new.tar")).expect(0, "");
    assert_eq!(digest(&work, "new.tar"), digest(&work, "merged.tar"));
    // The same bytes again, and nothing left beside them.
    work.sh(&format!(
        "{layer} changes | cmp - layer.tar; export SOURCE_DATE_EPOCH=1700000000
        for n in 1 2; do {image} '{base}' layer.tar $n.tar; done; cmp 1.tar 2.tar; rm 1.tar 2.tar; ls -A"
    ))
    .expect(0, "changes\nkernels\nlayer.tar\nmerged\nmerged.tar\nnew.tar\nroot\nroot.image.json\n");
}

#[test]
fn skopeo_and_umoci_find_the_same_tree_in_it() {
    if !have("skopeo") || !have("umoci") {
        skip!("no skopeo or no umoci");
    }
    let work = Work::new();
    changed(&work);
    work.sh(&format!(
        "{} changes layer.tar && {} '{}' layer.tar new.tar",
        script("layer"),
        script("image"),
        busybox_image().display()
    ))
    .expect(0, "");
    let wanted = digest(&work, "new.tar");
    for (source, target, read) in [
        ("docker-archive:new.tar", "oci:from-docker:tag", "from-docker"),
        ("oci-archive:new.tar", "oci:from-oci:tag", "from-oci"),
        ("oci-archive:new.tar", "docker-archive:docker.tar", "docker.tar"),
        ("oci-archive:new.tar", "dir:schema2 --format v2s2", ""),
    ] {
        work.sh(&format!("skopeo copy --quiet {source} {target}")).expect(0, "");
        if !read.is_empty() {
            assert_eq!(digest(&work, read), wanted, "{source} {target}");
        }
    }
    needs_root!();
    work.sh("umoci unpack --image from-oci:tag bundle >/dev/null 2>&1 &&
        tar --numeric-owner --xattrs --xattrs-include='*' --acls -cf umoci.tar -C bundle/rootfs .")
        .expect(0, "");
    assert_eq!(digest(&work, "umoci.tar"), wanted);
}

/// Where no device can be made an overlay marks what is gone by attributes, and systemd calls the upper directory data.
#[test]
fn marks_in_attributes_mean_the_same() {
    let work = Work::new();
    let form = if is_root() { "trusted" } else { "user" };
    work.sh(&format!(
        "mkdir -p rw/data/full/new rw/data/part rw/work; cd rw/data
        for name in part/gone 'part/a b\\c\nd'; do
            touch \"$name\"; setfattr -n {form}.overlay.whiteout -v y \"$name\"; done
        setfattr -n {form}.overlay.opaque -v x part; setfattr -n {form}.overlay.opaque -v y full
        setfattr -n {form}.overlay.origin -v 0x00fb full/new; setfattr -n user.kept -v 'a = b' full/new"
    ))
    .expect(0, "");
    let whole = "./\n./full/\n./full/new/\n./part/\n./full/.wh..wh..opq\n./part/.wh.a b\\\\c\\nd\n./part/.wh.gone\n";
    for changes in ["rw", "rw/data"] {
        work.sh(&format!("{} {changes} | tar -t", script("layer"))).expect(0, whole);
    }
    work.sh(&format!("{} rw | tr '\\0' '\\n' | grep -ao '[a-z]*[.]overlay[.].*\\|user.kept.*'", script("layer")))
        .expect(0, "user.kept=a = b\n");
}

#[test]
fn what_is_not_in_the_changes_is_not_made_up() {
    let work = Work::new();
    let form = if is_root() { "trusted" } else { "user" };
    for (make, words) in [
        (
            format!("mkdir up/sub; setfattr -n {form}.overlay.redirect -v /old up/sub"),
            "./sub: a directory that was renamed",
        ),
        (
            format!("touch up/sub; setfattr -n {form}.overlay.metacopy up/sub"),
            "./sub: only its owner and mode were copied",
        ),
        (format!("touch up/sub; setfattr -n {form}.overlay.nlink -v U+1 up/sub"), "./sub: its other names changed"),
        ("touch up/.wh.sub".into(), "./.wh.sub: in a layer such a name says that another file is gone"),
    ] {
        work.sh(&format!("mkdir up; {make}")).expect(0, "");
        work.sh(&format!("{} up layer.tar", script("layer"))).expect_refusal(&["layer: ", words]);
        work.sh("rm -r up; ls -A").expect(0, "");
    }
    work.sh(&format!(
        "mkdir up; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"up/s\")'; {} up | tar -t",
        script("layer")
    ))
    .expect(0, "./\n");
}

#[test]
fn changes_that_a_container_is_making_are_refused() {
    let work = Work::new();
    work.sh(&format!("unpack --quiet '{}' root >/dev/null; mkfifo ready go", busybox_image().display())).expect(0, "");
    let (user, layer) = (work.user(), script("layer"));
    let outcome = work.sh(&format!(
        "exec 3<>go; isolate {user} --pid -- pivot --no-handoff --overlay changes root -- sh -c 'echo; read -r line' >ready <go 3>&- &
        read -r line <ready; {layer} changes layer.tar; echo $?; echo >&3; wait; {layer} changes layer.tar; ls layer.tar"
    ));
    outcome.expect(0, "125\nlayer.tar\n");
    assert_eq!(outcome.stderr, "layer: changes: a container is using it (let that end first)\n");
}

#[test]
fn a_wrong_line_makes_nothing() {
    let work = Work::new();
    let (layer, image) = (script("layer"), script("image"));
    work.sh("mkdir up dir; echo no layer at all >text; tar -cf empty.tar -T /dev/null").expect(0, "");
    for (line, word) in [
        (format!("{layer} none layer.tar"), "none: no such directory"),
        (format!("{layer} text layer.tar"), "text: not a directory"),
        (format!("{layer} up none/layer.tar"), "none/layer.tar: the directory for it does not exist"),
        (format!("{layer} up dir"), "not a regular file"),
        (format!("{image} none empty.tar out.tar"), "none: no such image"),
        (format!("{image} empty.tar none out.tar"), "none: no such layer"),
        (format!("{image} empty.tar text out.tar"), "text: not a layer"),
        (format!("{image} text empty.tar out.tar"), "text: not an image"),
        (format!("{image} up empty.tar out.tar"), "up: not an OCI layout"),
        (format!("{image} empty.tar empty.tar dir"), "not a regular file"),
        (format!("{image} empty.tar empty.tar none/out.tar"), "the directory for it does not exist"),
    ] {
        work.sh(&line).expect_refusal(&[word]);
    }
    work.sh("ls -A").expect(0, "dir\nempty.tar\ntext\nup\n");
}

/// A base of two layers and its configuration, made by umoci, whose config says what it ran.
fn layout(work: &Work) {
    work.sh(&format!(
        "umoci init --layout base && umoci new --image base:tag && mkdir one && echo 1 >one/file && tar -cf one.tar -C one file &&
        umoci raw add-layer --image base:tag '{}' && umoci raw add-layer --image base:tag one.tar &&
        umoci config --image base:tag --config.cmd sh --config.env A=b &&
        mkdir -p up && echo 2 >up/file && {} up layer.tar",
        busybox_image().display(),
        script("layer")
    ))
    .expect(0, "");
}

#[test]
fn every_form_of_a_base_gets_the_layer_with_its_configuration_and_history_in_order() {
    if !have("skopeo") || !have("umoci") {
        skip!("no skopeo or no umoci");
    }
    let work = Work::new();
    layout(&work);
    work.sh(
        "skopeo copy --quiet oci:base:tag oci-archive:oci.tar; skopeo copy --quiet oci:base:tag docker-archive:docker.tar
        gzip -k docker.tar; skopeo copy --quiet --format v2s2 oci:base:tag oci:v2s2:tag
        mkdir files old; tar -xf docker.tar -C files; cd old; n=0
        for layer in $(jq -r '.[0].Layers[]' ../files/manifest.json); do n=$((n + 1)); mkdir $n; cp ../files/$layer $n/layer.tar; done
        mkdir 3; mv 2/layer.tar 3/real; ln -s ../3/real 2/layer.tar; cp ../files/$(jq -r '.[0].Config' ../files/manifest.json) config.json
        echo '[{\"Config\":\"config.json\",\"RepoTags\":null,\"Layers\":[\"1/layer.tar\",\"2/layer.tar\"]}]' >manifest.json
        tar -cf ../old.tar .",
    )
    .expect(0, "");
    for base in ["base", "oci.tar", "docker.tar", "docker.tar.gz", "v2s2", "old.tar"] {
        work.sh(&format!(
            "{} {base} layer.tar out.tar && unpack --quiet out.tar root >/dev/null && cat root/file",
            script("image")
        ))
        .expect(0, "2\n");
        work.sh(
            "unpack --inspect out.tar >config; jq -c '[.config.Cmd, .config.Env, (.rootfs.diff_ids | length)]' config
            jq '[.history[] | select(.empty_layer | not)] | length' config; jq -r '.history[-1].created_by' config
            skopeo inspect --raw oci-archive:out.tar | jq '.layers | length'; rm -r root root.image.json out.tar",
        )
        .expect(0, "[[\"sh\"],[\"A=b\"],3]\n3\nlayer.tar\n3\n");
    }
}

#[test]
fn a_base_that_is_not_what_it_says_is_refused() {
    if !have("umoci") {
        skip!("no umoci");
    }
    let work = Work::new();
    layout(&work);
    let image = script("image");
    let refused = |change: &str, words: &[&str]| {
        work.sh(&format!("rm -rf bad; cp -r base bad; cd bad; {change}")).expect(0, "");
        for base in ["bad", "bad.tar"] {
            work.sh("tar -cf bad.tar -C bad .").expect(0, "");
            work.sh(&format!("{image} {base} layer.tar out.tar")).expect_refusal(words);
            work.sh("ls -d out.tar*").expect(2, "");
        }
    };
    let largest = "$(ls -S blobs/sha256/* | head -n 1)";
    refused(&format!("echo >>{largest}"), &["the blob's content has another digest"]);
    refused(&format!("rm {largest}"), &["holds no blobs/sha256/"]);
    refused(&format!("f={largest}; rm $f; ln -s /etc/passwd $f"), &["blobs/sha256/", "leads out of it"]);
    refused(
        "jq '.manifests[0].digest = \"sha256:../../index.json\"' index.json >i; mv i index.json",
        &["not a sha256 digest"],
    );
    refused(
        "jq '.manifests += .manifests | .manifests[1].digest = \"sha256:00\"' index.json >i; mv i index.json; >blobs/sha256/00",
        &["holds 2 images"],
    );
}
