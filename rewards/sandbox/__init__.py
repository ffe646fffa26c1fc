"""A box for programs that nobody trusts, and the verdict on what they did in it.

What the level `bubblewrap` promises (tests/rewards/sandbox has a program for each):

- No network, no process of the machine in sight, an empty environment, no files but the libraries and the
  standard library that Python itself needs, read-only; a work folder in memory, of bounded size, that is gone
  afterwards. Nothing of the project, of the run, of /etc or of any home is there.
- Processor time, memory of a process, number of processes, open files, size of a file and of the output are
  limited; when the time is over, or the last test is done, every process in the box is killed, and `run`
  returns only after the kernel has confirmed it.
- The exit code proves nothing. Tests run in a process of their own, which cannot be traced or read by the
  program's; the program is started before the tests are read; results come over a pipe that it does not hold,
  each with a nonce that it cannot know. What was expected never reaches the program: values go to it and come
  back as plain data and are compared on our side.
- A box that cannot start is `sandbox_failed`, which is no verdict on the program.

What it does not promise: it shares the machine's kernel, so a program with an exploit for it gets out. Memory
is limited for each process, so all together may take `processes` times as much. Who runs on the same cores
can be slowed. A program may still pass by memorised answers, and where a test compares two objects of the
program with each other, the program's own `__eq__` decides.

The level `none` has limits, a session and a temporary folder of its own, and the same nonce; it protects
against accidents, not against programs that mean harm: they read and write what the user can. As root not
even the number of processes is limited.
"""
