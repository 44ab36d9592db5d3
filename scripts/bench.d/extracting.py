"""Extracting: an image in the page cache, or through a pipe, onto a filesystem made for each run.

The filesystems lie in memory, so that a disk's own speed is not what is compared.
"""

import os
import random
import shlex
import shutil
import subprocess
import tarfile

from images import Images
from measure import Contender

# name, image, how packed, filesystem, from a pipe
PACKED, KINDS = ("tar", "gz", "xz", "zst"), ("ext4", "xfs", "tmpfs")
CELLS = [(name, how, kind, pipe) for name in ("debian", "tiny", "large", "huge") for how in PACKED for kind in KINDS for pipe in (False, True)
         # Minutes each, and what the decompressor makes of it does not depend on where the bytes come from.
         if not (pipe and name in ("large", "huge") and how in ("gz", "xz"))]
QUICK = [("debian", how, "ext4", False) for how in ("tar", "gz", "xz", "zst")]
MIDDLE = [*QUICK, *(("debian", how, "ext4", True) for how in ("tar", "gz", "xz", "zst"))]
MIDDLE += [("debian", "tar", "xfs", False), ("debian", "zst", "xfs", False), ("debian", "tar", "tmpfs", False), ("debian", "gz", "tmpfs", False)]
MIDDLE += [("large", how, "ext4", False) for how in ("tar", "gz", "zst")]
MIDDLE += [(name, how, "ext4", False) for name in ("tiny", "huge") for how in ("tar", "zst")]
LAYERS = (1, 10, 50)
SHOWN = {("debian", how, "ext4", False) for how in ("tar", "gz", "xz", "zst")}


def run(bench):
    images, place = Images(bench), Place(bench)
    floors = Floors(bench, place)
    threads = str(len(os.sched_getaffinity(0)))
    for cell in QUICK if bench.quick else MIDDLE if bench.middle else CELLS:
        name, how, kind, pipe = cell
        title = f"{name}.tar{'' if how == 'tar' else '.' + how} onto {kind}{' from a pipe' if pipe else ''}"
        if bench.only and bench.only not in title:
            continue
        image = images.packed(name, how)
        if not image or not place.can(kind):
            continue
        warm(image)
        place.expect(images.plain(name))
        people = [our(bench, place, kind, image, pipe), *peers(bench, place, kind, image, how, pipe)]
        people += floors.of(image, images.plain(name), how, kind, threads)
        bench.cell("extract", title, [p for p in people if p], plot=cell in SHOWN, about="a root from a tar")
    for layers in (10,) if bench.quick else LAYERS:
        title = f"docker save, {layers} layer{'s' if layers > 1 else ''}, onto ext4"
        if bench.only and bench.only not in title:
            continue
        image = images.layered("debian", layers)
        if image and place.can("ext4"):
            warm(image)
            place.expect(images.plain("debian"))
            people = [our(bench, place, "ext4", image, False), *layered_peers(bench, place, image)]
            people += floors.of(image, images.plain("debian"), "layers", "ext4", threads)
            bench.cell("extract", title, [p for p in people if p], plot=layers == 10, about="digests verified")
    again(bench, images, place)


class Place:
    """A filesystem of its own for each run."""

    def __init__(self, bench):
        self.bench, self.file, self.target = bench, os.path.join(bench.work, "disk"), os.path.join(bench.work, "fresh")
        os.makedirs(self.target)
        self.root = os.path.join(self.target, "root")
        self.able = {"tmpfs": True}
        self.expected = []

    def can(self, kind):
        if kind not in self.able:
            self.able[kind] = self.bench.has(f"mkfs.{kind}")
            try:
                if self.able[kind]:
                    self.fresh(kind)
                    self.gone()
            except subprocess.CalledProcessError:
                self.able[kind] = False
                self.bench.lacks(kind, "cannot be mounted from a loop device here")
        return self.able[kind]

    def fresh(self, kind, root=False):
        if kind == "tmpfs":
            self.bench.mount("tmpfs", self.target, "tmpfs", "size=6g,mode=755")
        else:
            with open(self.file, "wb") as file:
                file.truncate(6 << 30)
            subprocess.run([f"mkfs.{kind}", "-q", self.file], check=True)
            # ext4 would go on writing its inode tables in the background.
            self.bench.mount(self.file, self.target, kind, "loop,noinit_itable" if kind == "ext4" else "loop")
        if root:
            os.mkdir(self.root)

    def gone(self):
        """Whether what had to be there is there."""
        whole = all(os.path.lexists(os.path.join(self.root, name)) for name in self.expected)
        subprocess.run(["umount", self.target], check=True)
        if os.path.exists(self.file):
            os.unlink(self.file)
        return whole

    def expect(self, plain):
        """Some of the names that every extraction of this archive has to have made."""
        with tarfile.open(plain) as archive:
            names = archive.getnames()
        self.expected = random.Random(1).sample(names, min(200, len(names)))

    def contender(self, name, argv, kind, role="peer", root=True, **more):
        return Contender(name, argv, role, before=lambda: self.fresh(kind, root), after=self.gone, **more)


def warm(path):
    with open(path, "rb") as file:
        while file.read(1 << 22):
            pass


def piped(image, words, pipe):
    return ["sh", "-c", f"cat {shlex.quote(image)} | {shlex.join(words)}"] if pipe else words


def our(bench, place, kind, image, pipe):
    if not os.path.exists(bench.tool("unpack")):
        bench.lacks("unpack", "not built")
        return None
    words = [bench.tool("unpack"), "--quiet", "-" if pipe else image, place.root]
    return place.contender("ours: unpack", piped(image, words, pipe), kind, "ours", root=False)


def peers(bench, place, kind, image, how, pipe):
    """Each peer in its quickest form that keeps owners, modes and times."""
    source = "-" if pipe else image
    flag = {"tar": [], "gz": ["-z"], "xz": ["-J"], "zst": ["--zstd"]}[how]
    # xz decodes on several threads only where it is told to.
    more = {"env": {"XZ_OPT": "-T0"}} if how == "xz" else {}
    words = ["tar", "--numeric-owner", "-xp", *flag, "-f", source, "-C", place.root]
    yield place.contender("XZ_OPT=-T0 tar" if more else "tar", piped(image, words, pipe), kind, **more)
    if bench.has("bsdtar"):
        words = ["bsdtar", "--numeric-owner", "-xp", "-f", source, "-C", place.root]
        yield place.contender("bsdtar", piped(image, words, pipe), kind)
    for packer in ("pigz", "igzip") if how == "gz" else ():
        if bench.has(packer):
            tar = shlex.join(["tar", "--numeric-owner", "-xp", "-f", "-", "-C", place.root])
            unpacked = f"cat {shlex.quote(image)} | {packer} -dc" if pipe else f"{packer} -dc {shlex.quote(image)}"
            yield place.contender(f"{packer} -dc | tar", ["sh", "-c", f"{unpacked} | {tar}"], kind)


def layered_peers(bench, place, image):
    if bench.has("skopeo", "umoci"):
        layout = os.path.join(place.target, "layout")
        script = (f"skopeo --insecure-policy copy -q docker-archive:{shlex.quote(image)} oci:{layout}:bench && "
                  f"umoci raw unpack --image {layout}:bench {place.root}")
        yield place.contender("skopeo and umoci", ["sh", "-c", script], "ext4", root=False)
        # umoci alone: what skopeo does is done before the clock starts.
        ready = os.path.join(bench.work, "layout")

        def before():
            place.fresh("ext4")
            shutil.rmtree(ready, ignore_errors=True)
            copy = ["skopeo", "--insecure-policy", "copy", "-q", f"docker-archive:{image}", f"oci:{ready}:bench"]
            subprocess.run(copy, check=True, stdout=subprocess.DEVNULL)

        yield Contender("umoci alone", ["umoci", "raw", "unpack", "--image", f"{ready}:bench", place.root], before=before, after=place.gone)
    # No whiteouts, no digests: what the layers' bytes alone cost with tar.
    script = (f"cd {place.target} && mkdir save && tar -xf {shlex.quote(image)} -C save && "
              "tr ',' '\\n' < save/manifest.json | grep -o '[0-9a-f]*/layer.tar' | "
              f"while read -r layer; do tar --numeric-owner -xpf save/$layer -C {place.root} || exit; done")
    yield place.contender("tar, layer by layer", ["sh", "-c", script], "ext4")


class Floors:
    """Decompression alone, and the tree written from memory by as many threads as there are processors."""

    def __init__(self, bench, place):
        self.bench, self.place = bench, place
        self.there = os.path.exists(bench.floors)
        if not self.there:
            bench.lacks("the floors", "not built beside the tools")

    def of(self, image, plain, how, kind, threads):
        if not self.there:
            return
        floors = self.bench.floors
        if how in ("gz", "xz", "zst"):
            yield Contender("floor: decompression", [floors, "decompress", image, threads], "floor", own_clock=True, key=("decompress", image))
        if how == "layers":
            yield Contender("floor: SHA-256", [floors, "hash", image], "floor", own_clock=True)
        words = [floors, "write", plain, self.place.root, threads]
        yield self.place.contender("floor: writing", words, kind, "floor", root=False, own_clock=True, key=("write", plain, kind))


def again(bench, images, place):
    """A second run finds that the root is this image already."""
    title = "debian.tar.gz, a second time"
    place.expected = []
    image = images.packed("debian", "gz") if not bench.only or bench.only in title else None
    if not image or not os.path.exists(bench.tool("unpack")):
        return
    words = [bench.tool("unpack"), "--quiet", image, place.root]

    def before():
        place.fresh("tmpfs")
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    bench.cell("extract", title, [Contender("ours: unpack", words, "ours", before=before, after=place.gone)], count=20,
               about="the receipt says that it is there")
