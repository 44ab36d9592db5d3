/*
 * std asks for the main thread's stack, to tell an overflow from another fault in its message. musl finds out
 * by one system call for each page of the stack that is not there; and since it finds only the part that is mapped
 * now, std would not know the overflow anyway. An error is a valid answer. (Linked with --wrap=pthread_getattr_np.)
 *
 * Without the bounds its handler for SIGSEGV and SIGBUS tells nothing either, and is a third of what std does before main: it
 * leaves both alone where it finds them taken. (--wrap=sigaction)
 *
 * And musl's sysconf(3) has its answers in a page of the file that nothing else reads; std asks it for the size of a page.
 * (--wrap=sysconf)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

int __real_pthread_getattr_np(pthread_t thread, pthread_attr_t *attributes);

int __wrap_pthread_getattr_np(pthread_t thread, pthread_attr_t *attributes)
{
	return getpid() == syscall(SYS_gettid) ? ENOSYS : __real_pthread_getattr_np(thread, attributes);
}

int __real_sigaction(int signal, const struct sigaction *new, struct sigaction *old);

int __wrap_sigaction(int signal, const struct sigaction *new, struct sigaction *old)
{
	if (new || (signal != SIGSEGV && signal != SIGBUS))
		return __real_sigaction(signal, new, old);
	*old = (struct sigaction){.sa_handler = SIG_IGN};
	return 0;
}

long __real_sysconf(int name);

long __wrap_sysconf(int name)
{
	return name == _SC_PAGESIZE ? 4096 : __real_sysconf(name);
}
