/*
 * What a process in the sandbox tries in order to get out of it. Usage: escape SECRET, the path of a
 * file on the host. Every attempt runs in a process of its own and prints a line: "refused NAME: why",
 * "ESCAPED NAME", or "unclear NAME: why" for an error that no permission check gives. No attempt
 * does harm where it succeeds: files are only opened, and calls get arguments that come to nothing
 * once the permission check is behind them.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *secret;

static int result(long r) { return r < 0 ? errno : 0; }
static int opened(int fd) { return result(fd); }
static int writes(const char *path) { return opened(open(path, O_WRONLY)); }
static int reads(const char *path)
{
	char byte;
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return errno;
	/* A masked file is /dev/null: it opens, and there is nothing in it. */
	return read(fd, &byte, 1) == 1 ? 0 : EACCES;
}

/* Privileges. */
static int capabilities(void)
{
	char line[200];
	FILE *status = fopen("/proc/self/status", "r");
	while (fgets(line, sizeof line, status))
		/* By those that may be left root is root of the image's files and users, and of nothing else: CHOWN,
		   DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID. */
		if (!strncmp(line, "Cap", 3) && strtoull(strchr(line, ':') + 1, NULL, 16) & ~0xfbull)
			return 0;
	return EPERM;
}
static int new_privs(void) { return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? EPERM : 0; }
static int no_filter(void) { return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2 ? EPERM : 0; }

/* Namespaces and mounts. */
static int userns(void) { return result(unshare(CLONE_NEWUSER)); }
static int mountns(void) { return result(unshare(CLONE_NEWNS)); }
static int userns_by_clone(void) { return result(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)); }
static int userns_by_clone3(void)
{
	unsigned long long args[8] = { CLONE_NEWUSER, 0, 0, 0, SIGCHLD };
	return result(syscall(435, args, sizeof args));
}
static int mount_tmpfs(void) { return result(mount("none", "/tmp", "tmpfs", 0, NULL)); }
static int mount_proc(void) { return result(mount("proc", "/tmp", "proc", 0, NULL)); }
static int mount_cgroup(void) { return result(mount("cgroup", "/tmp", "cgroup", 0, "memory")); }
static int mount_bind(void) { return result(mount("/", "/tmp", NULL, MS_BIND, NULL)); }
static int remount(void) { return result(mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL)); }
static int unmask(void) { return result(umount2("/proc/sys", MNT_DETACH)); }
static int fsopen_tmpfs(void) { return result(syscall(430, "tmpfs", 0)); }
static int open_tree_clone(void) { return result(syscall(428, AT_FDCWD, "/", 1)); }
static int pivots(void) { return result(syscall(SYS_pivot_root, "/", "/")); }
static int joins(void)
{
	int fd = open("/proc/1/ns/mnt", O_RDONLY);
	return fd < 0 ? errno : result(setns(fd, 0));
}

/* The system. */
static int core_pattern(void) { return writes("/proc/sys/kernel/core_pattern"); }
static int modprobe_path(void) { return writes("/proc/sys/kernel/modprobe"); }
static int binfmt(void) { return writes("/proc/sys/fs/binfmt_misc/register"); }
static int sysrq(void) { return writes("/proc/sysrq-trigger"); }
static int kcore(void) { return reads("/proc/kcore"); }
static int memory_device(void) { return opened(open("/dev/mem", O_RDONLY)); }
static int disk(void)
{
	char line[200], name[100];
	unsigned major, minor;
	FILE *partitions = fopen("/proc/partitions", "r");
	while (partitions && fgets(line, sizeof line, partitions))
		if (sscanf(line, "%u %u %*u %99s", &major, &minor, name) == 3)
			break;
	if (mknod("/tmp/disk", S_IFBLK | 0600, makedev(major, minor)) < 0)
		return errno;
	return reads("/tmp/disk");
}
static int module(void) { return result(syscall(SYS_finit_module, -1, "", 0)); }
static int kexec(void) { return result(syscall(SYS_kexec_load, 0, 0, 0, -1)); }
static int reboots(void) { return result(syscall(SYS_reboot, 0xfee1dead, 672274793, 0, 0)); }
static int swap(void) { return result(syscall(SYS_swapon, "/", 0)); }
static int accounting(void) { return result(syscall(SYS_acct, "/")); }
static int clock_set(void) { return result(syscall(SYS_settimeofday, (void *)1, NULL)); }
static int kernel_log(void) { return result(syscall(SYS_syslog, 4, NULL, 0)); }
static int bpf_map(void)
{
	unsigned attr[32] = { 1 /* hash */, 4, 4, 1 };
	return result(syscall(SYS_bpf, 0, attr, sizeof attr));
}
static int perf(void)
{
	unsigned long long attr[16] = { (112ull << 32) | 1 };
	return result(syscall(SYS_perf_event_open, attr, -1, 0, -1, 0));
}
static int keyring(void) { return result(syscall(SYS_keyctl, 0, -3, 1)); }
static int new_key(void) { return result(syscall(SYS_add_key, "user", "escape", "x", 1, -2)); }
static int fault_handler(void) { return result(syscall(SYS_userfaultfd, 0)); }
static int ring(void)
{
	char params[120] = { 0 };
	return result(syscall(425, 1, params));
}
#ifdef __x86_64__
static int io_ports(void) { return result(syscall(SYS_iopl, 3)); }
/* The calls of other machines go by other numbers, which a filter of one table does not see. */
static int userns_by_x32(void) { return result(syscall(0x40000000 | SYS_unshare, CLONE_NEWUSER)); }
static int userns_by_i386(void)
{
	long r = 310;
	__asm__ volatile("int $0x80" : "+a"(r) : "b"(CLONE_NEWUSER) : "memory", "r8", "r9", "r10", "r11");
	if (r >= 0)
		return 0;
	return (int)-r;
}
#endif

/* Other processes, and the terminal. */
static int inject(unsigned long request)
{
	char c = 'x';
	int terminal = open("/dev/tty", O_RDWR);
	if (terminal < 0) {
		/* One of our own will do to see whether the call is let through. */
		int master = posix_openpt(O_RDWR | O_NOCTTY);
		if (master < 0 || grantpt(master) || unlockpt(master))
			return errno ? errno : EINVAL;
		terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
		setsid();
		ioctl(terminal, TIOCSCTTY, 0);
	}
	return result(syscall(SYS_ioctl, terminal, request, &c));
}
static int terminal_input(void) { return inject(TIOCSTI); }
static int terminal_paste(void) { return inject(0x541c); /* TIOCLINUX */ }
/* The kernel looks at 32 bits of the request; a filter must too. */
static int terminal_input_64(void) { return inject((1ul << 32) | TIOCSTI); }

/* The host's files. */
static int by_handle(const char *mount)
{
	/* The root of an ext4, xfs or btrfs by its number, below the mount that a volume shows. */
	for (unsigned long long inode = 1; inode < 600; inode++) {
		struct { struct file_handle handle; unsigned char bytes[8]; } h = { { 8, 1 }, { 0 } };
		memcpy(h.handle.f_handle, &inode, 8);
		int fd = open(mount, O_RDONLY);
		int file = syscall(SYS_open_by_handle_at, fd, &h, O_RDONLY);
		if (file >= 0)
			return 0;
		if (errno != ESTALE && errno != EINVAL)
			return errno;
		close(fd);
	}
	return errno;
}
static int volume_by_handle(void) { return by_handle("/volume"); }
static int root_by_handle(void) { return by_handle("/"); }

static int above(const char *directory)
{
	char path[8192];
	snprintf(path, sizeof path, "%s/../../../../../../../../../../../..%s", directory, secret);
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return errno;
	return 0;
}
static int by_dots(void) { return above("/"); }
static int by_cwd(void) { return above("."); }
static int by_volume(void) { return above("/volume"); }
static int by_chroot(void)
{
	mkdir("/tmp/jail", 0700);
	return chroot("/tmp/jail") < 0 ? errno : above(".");
}

/* Goes through what /proc shows of every process, and takes the worst of what `attempt` says. */
static int each(const char *what, int (*attempt)(const char *))
{
	int worst = ENOENT;
	DIR *proc = opendir("/proc");
	for (struct dirent *process; (process = readdir(proc));) {
		char path[4096];
		if (process->d_name[0] < '0' || process->d_name[0] > '9')
			continue;
		snprintf(path, sizeof path, "/proc/%.20s/%s", process->d_name, what);
		if (strcmp(what, "fd") != 0) {
			int error = attempt(path);
			worst = error == 0 || worst == 0 ? 0 : error;
			continue;
		}
		DIR *fds = opendir(path);
		for (struct dirent *fd; fds && (fd = readdir(fds));) {
			snprintf(path, sizeof path, "/proc/%.20s/fd/%.20s", process->d_name, fd->d_name);
			if (fd->d_name[0] != '.' && attempt(path) == 0)
				worst = 0;
		}
		if (fds)
			closedir(fds);
	}
	closedir(proc);
	return worst == ENOTDIR ? ENOENT : worst;
}
/* What lies below a layer would be changed for every other container of the image. */
static int create_in(const char *directory)
{
	char path[8192];
	snprintf(path, sizeof path, "%s/escape-mark", directory);
	return opened(open(path, O_WRONLY | O_CREAT, 0600));
}
static int layers_by_descriptors(void) { return each("fd", create_in); }
static int by_descriptors(void) { return each("fd", above); }
static int by_working_directories(void) { return each("cwd", above); }
static int by_roots(void) { return each("root", above); }

/* Whether a process runs another program than this one: one of the host's, whose memory is a way out. */
static int is_foreign(const char *exe)
{
	struct stat own, other;
	if (stat("/proc/self/exe", &own) < 0)
		return 1;
	/* Who may not look at its program cannot be told that it is another: that is one of the host's as well. */
	return stat(exe, &other) < 0 || own.st_dev != other.st_dev || own.st_ino != other.st_ino;
}
static int trace(const char *exe)
{
	int process = atoi(exe + strlen("/proc/"));
	return is_foreign(exe) ? result(ptrace(PTRACE_SEIZE, process, 0, 0)) : ENOENT;
}
static int read_memory(const char *exe)
{
	char byte;
	struct iovec here = { &byte, 1 }, there = { (void *)&secret, 1 };
	int process = atoi(exe + strlen("/proc/"));
	return is_foreign(exe) ? result(process_vm_readv(process, &here, 1, &there, 1, 0)) : ENOENT;
}
static int open_memory(const char *exe)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/mem", atoi(exe + strlen("/proc/")));
	return is_foreign(exe) ? opened(open(path, O_RDWR)) : ENOENT;
}
static int steal_descriptor(const char *exe)
{
	int fd = syscall(434 /* pidfd_open */, atoi(exe + strlen("/proc/")), 0);
	return fd < 0 ? errno : result(syscall(438 /* pidfd_getfd */, fd, 0, 0));
}
static int trace_hosts(void) { return each("exe", trace); }
static int read_hosts_memory(void) { return each("exe", read_memory); }
static int open_hosts_memory(void) { return each("exe", open_memory); }
static int steal_descriptors(void) { return each("exe", steal_descriptor); }

/* A program that is not ours: it can be written now, or (ETXTBSY) as soon as it ends, unless its mount is read-only or it is sealed. */
static int change_program(const char *exe)
{
	struct stat own, other;
	if (stat("/proc/self/exe", &own) < 0 || stat(exe, &other) < 0)
		return errno;
	if (own.st_dev == other.st_dev && own.st_ino == other.st_ino)
		return ENOENT;
	printf("found %s\n", exe);
	int fd = open(exe, O_RDONLY);
	struct statvfs mount;
	int fixed = fd >= 0 && ((fstatvfs(fd, &mount) == 0 && mount.f_flag & ST_RDONLY) ||
				(fcntl(fd, F_GET_SEALS) > 0 && fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE));
	if (open(exe, O_WRONLY) >= 0 || (errno == ETXTBSY && !fixed))
		return 0;
	if (chmod(exe, other.st_mode & 07777) == 0)
		return 0;
	return errno;
}
static int programs(void) { return each("exe", change_program); }

static const struct { const char *name; int (*attempt)(void); } attempts[] = {
#define A(f) { #f, f }
	A(capabilities), A(new_privs), A(no_filter),
	A(userns), A(mountns), A(userns_by_clone), A(userns_by_clone3), A(mount_tmpfs), A(mount_proc),
	A(mount_cgroup), A(mount_bind), A(remount), A(unmask), A(fsopen_tmpfs), A(open_tree_clone), A(pivots), A(joins),
	A(core_pattern), A(modprobe_path), A(binfmt), A(sysrq), A(kcore), A(memory_device), A(disk), A(module),
	A(kexec), A(reboots), A(swap), A(accounting), A(clock_set), A(kernel_log), A(bpf_map), A(perf),
	A(keyring), A(new_key), A(fault_handler), A(ring),
#ifdef __x86_64__
	A(io_ports), A(userns_by_x32), A(userns_by_i386),
#endif
	A(trace_hosts), A(read_hosts_memory), A(open_hosts_memory), A(steal_descriptors), A(terminal_input), A(terminal_paste), A(terminal_input_64),
	A(volume_by_handle), A(root_by_handle), A(by_dots), A(by_cwd), A(by_volume), A(by_chroot),
	A(by_descriptors), A(layers_by_descriptors), A(by_working_directories), A(by_roots), A(programs),
};

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	secret = argv[1];
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
		const char *name = attempts[i].name;
		int status;
		pid_t child = fork();
		if (child == 0)
			_exit(attempts[i].attempt());
		if (child < 0 || waitpid(child, &status, 0) != child)
			return 2;
		int error = WEXITSTATUS(status);
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
			printf("refused %s: killed\n", name);
		else if (!WIFEXITED(status))
			printf("unclear %s: signal %d\n", name, WTERMSIG(status));
		else if (error == 0)
			printf("ESCAPED %s\n", name);
		else if (error == EPERM || error == EACCES || error == ENOSYS || error == EROFS || error == ENOENT)
			printf("refused %s: %s\n", name, strerror(error));
		else
			printf("unclear %s: %s\n", name, strerror(error));
	}
	return 0;
}
