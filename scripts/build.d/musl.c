/* The two symbols that Rust's std and gcc's unwinder take from glibc and that musl has not. */

/* glibc 2.35's shortcut for the unwinder: "found nothing" sends it to dl_iterate_phdr, which musl has. */
int _dl_find_object(void *pc, void *result)
{
	(void)pc;
	(void)result;
	return -1;
}

/* std starts processes by posix_spawn from glibc 2.24 on; before, by fork and exec, as it does on any libc. */
const char *gnu_get_libc_version(void)
{
	return "2.0";
}
