"""The images that are extracted, made once and kept in the cache."""

import io
import json
import os
import random
import shutil
import subprocess
import tarfile

from measure import say

LARGE = ("gcc,g++,python3,perl,git,manpages-dev,python3-numpy,python3-scipy,libboost-dev,"
         "linux-headers-amd64,python3-sympy,python3-pandas,python3-twisted")
PACKERS = {
    "gz": [["pigz", "-6", "-n"], ["gzip", "-6", "-n"]],
    "xz": [["xz", "-T0", "-3"]],
    "zst": [["zstd", "-q", "-T0", "-3"]],
}


class Images:
    def __init__(self, bench):
        self.bench, self.dir = bench, bench.cache
        os.makedirs(self.dir, exist_ok=True)

    def plain(self, name):
        """A root filesystem's tar, or None if it cannot be made here."""
        make = {"debian": lambda path: self.debian(path, None), "large": lambda path: self.debian(path, LARGE),
                "tiny": self.tiny, "huge": self.huge}[name]
        return self.made(f"{name}.tar", make)

    def packed(self, name, how):
        plain = self.plain(name)
        if not plain or how == "tar":
            return plain
        packer = next((words for words in PACKERS[how] if shutil.which(words[0])), None)
        if not packer:
            self.bench.lacks(PACKERS[how][-1][0], "not installed; no image packed with it")
            return None

        def pack(path):
            with open(plain, "rb") as source, open(path, "wb") as target:
                subprocess.run(packer, stdin=source, stdout=target, check=True)

        return self.made(f"{name}.tar.{how}", pack)

    def layered(self, name, layers):
        """The same files as docker save has them, in so many layers; some files are there twice."""
        plain = self.plain(name)
        return plain and self.made(f"{name}-{layers}-layers.tar", lambda path: docker_save(plain, path, layers))

    def made(self, name, make):
        path = os.path.join(self.dir, name)
        if not os.path.exists(path):
            say(f"making {path}")
            try:
                make(path + ".new")
            except (OSError, subprocess.CalledProcessError) as error:
                self.bench.lacks(name, f"could not be made: {error}")
                return None
            os.rename(path + ".new", path)
        return path

    def debian(self, path, more):
        if not self.bench.has("mmdebstrap"):
            raise OSError("mmdebstrap is not installed")
        words = ["mmdebstrap", "--quiet", "--variant=minbase", "--format=tar"]
        words += [f"--include={more}"] if more else []
        subprocess.run([*words, "bookworm", path], check=True, stdin=subprocess.DEVNULL)

    def tiny(self, path):
        """100,000 files of up to 2 KiB in 1,000 directories."""
        chance = random.Random(1)
        text = chance.randbytes(1 << 16).hex().encode()
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
            for directory in range(1000):
                self.add(archive, f"./{directory}", tarfile.DIRTYPE, 0o755)
                for number in range(100):
                    size, start = chance.randrange(2048), chance.randrange(1 << 16)
                    self.add(archive, f"./{directory}/{number}", tarfile.REGTYPE, 0o644, text[start : start + size])

    def huge(self, path):
        """Four files of 300 MiB that compress to about a half."""
        chance = random.Random(2)
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
            for number in range(4):
                member = tarfile.TarInfo(f"./{number}")
                member.size, member.mtime = 300 << 20, 1_700_000_000
                block = b"".join(chance.randbytes(4096) + bytes(2048) + b"word " * 410 for _ in range(1280))[: 10 << 20]
                archive.addfile(member, Repeated(block, member.size, chance))

    @staticmethod
    def add(archive, name, kind, mode, data=b""):
        member = tarfile.TarInfo(name)
        member.type, member.mode, member.size, member.mtime = kind, mode, len(data), 1_700_000_000
        archive.addfile(member, io.BytesIO(data))


class Repeated:
    """A block over and over, each time from another start, as a file to read."""

    def __init__(self, block, size, chance):
        self.block, self.left, self.chance = block, size, chance

    def read(self, count):
        count = min(count, self.left)
        self.left -= count
        start = self.chance.randrange(len(self.block) // 2)
        piece = self.block[start : start + count]
        return piece + self.block[: count - len(piece)]


def docker_save(plain, path, layers):
    """Consecutive runs of the archive's entries become layers; each also has the last twentieth of the one before."""
    import hashlib

    with tarfile.open(plain) as archive, open(plain, "rb") as raw:
        members = archive.getmembers()
        ends = [member.offset for member in members[1:]]
        last = members[-1]
        ends.append(last.offset_data + (-(-last.size // 512) * 512 if last.isreg() else 0))
        share = -(-len(members) // layers)
        config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]}, "rootfs": {"type": "layers", "diff_ids": []}}
        manifest = [{"Config": "", "RepoTags": ["bench:latest"], "Layers": []}]
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as outer:
            for layer in range(layers):
                first, end = layer * share, min(len(members), (layer + 1) * share)
                if first >= end:
                    break
                again = [n for n in range(max(0, first - share // 20), first) if members[n].isreg()]
                bytes_of = bytearray()
                for n in [*again, *range(first, end)]:
                    raw.seek(members[n].offset)
                    bytes_of += raw.read(ends[n] - members[n].offset)
                bytes_of += bytes(1024)
                digest = hashlib.sha256(bytes_of).hexdigest()
                name = f"{digest}/layer.tar"
                put(outer, name, bytes_of)
                config["rootfs"]["diff_ids"].append(f"sha256:{digest}")
                manifest[0]["Layers"].append(name)
            text = json.dumps(config).encode()
            manifest[0]["Config"] = hashlib.sha256(text).hexdigest() + ".json"
            put(outer, manifest[0]["Config"], text)
            put(outer, "manifest.json", json.dumps(manifest).encode())


def put(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
