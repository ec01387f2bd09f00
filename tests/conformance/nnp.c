/* The setuid program of the stand-in for critest's image nonewprivs. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	printf("Effective uid: %d\n", geteuid());
	return 0;
}
