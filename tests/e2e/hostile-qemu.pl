#!/usr/bin/perl
# A stand-in for a QEMU whose guest has broken out of it. It tries what it must not be able to do, writes a line for
# each attempt on standard error, `ATTEMPT name: achieved` or `ATTEMPT name: refused (why)`, and ends.
use strict;
use warnings;
use Errno;
use Fcntl;
use Socket;

# It does not say what it is: a usual QEMU then.
exit 1 if grep { /^none,accel=/ } @ARGV;
$| = 1;
my $shim = getppid();

sub attempt {
    my ($name, $achieved) = @_;
    my $why = "$!";
    print STDERR "ATTEMPT $name: ", ($achieved ? 'achieved' : "refused ($why)"), "\n";
}
sub reads {
    my ($path) = @_;
    $! = 0;
    open(my $file, '<', $path) or return 0;
    return defined(sysread($file, my $byte, 1));
}
sub writes { my ($path) = @_; $! = 0; return open(my $file, '>>', $path) }
sub overwrites {
    my ($fd) = @_;
    open(my $image, '+<&=', $fd) or return 0;
    return syswrite($image, 'QFI');
}
sub lists { my ($path) = @_; $! = 0; opendir(my $folder, $path) or return 0; return scalar grep { !/^\.\.?$/ } readdir($folder) }
sub connects {
    my ($path) = @_;
    socket(my $socket, AF_UNIX, SOCK_STREAM, 0) or return 0;
    return connect($socket, pack_sockaddr_un($path));
}
# Arguments that the kernel gets as memory must be variables.
sub mounts { my ($from, $to, $type) = ('none', '/tmp', 'tmpfs'); return syscall(165, $from, $to, $type, 0, 0) == 0 }
sub makes_device { my $path = '/tmp/mem'; return syscall(133, $path, 0020600, 0x101) == 0 }
sub sets_clock { my $time = pack('qq', 0, 0); return syscall(227, 0, $time) == 0 }

# What it may do, without which all else would prove nothing.
my ($own) = map { /^set=\d+,fd=(\d+),opaque=vda$/ ? $1 : () } @ARGV;
attempt('own image is open for writing', defined $own && overwrites($own));
attempt('own runtime directory is writable', writes("$ENV{RUNTIME_DIRECTORY}/mine"));
attempt('programs can be read', reads('/usr/bin/perl'));

attempt('read /etc/shadow', reads('/etc/shadow'));
attempt('list /home', lists('/home'));
attempt('list /root', lists('/root'));
attempt("read another guest's image", reads('/var/lib/glassbox/images/other.qcow2'));
attempt("read one's own image by its path", reads('/var/lib/glassbox/images/web.qcow2'));
attempt("read an image that all may read", reads('/var/lib/glassbox/images/disk.qcow2'));
attempt('read definitions', lists('/etc/glassbox/qemu'));
attempt("read another guest's log", reads('/var/log/glassbox/qemu/other-serial0.log'));
attempt("list another guest's runtime directory", lists('/run/glassbox/guest/other'));
attempt("connect to another guest's monitor", connects('/run/glassbox/guest/other/monitor'));
attempt("list another guest's state", lists('/var/lib/glassbox/guest/other'));
attempt('connect to the registry', connects('/run/glassbox/registry'));
attempt('make a lock on a name', writes('/run/glassbox/claim/other.name'));
attempt('connect to the system bus', connects('/run/dbus/system_bus_socket'));
attempt('connect to the service manager', connects('/run/systemd/private'));
attempt('write to the system', writes('/usr/bin/glassbox-qemu'));
attempt('write to /etc', writes('/etc/passwd'));
attempt('write to /sys', writes('/sys/kernel/uevent_helper'));
attempt('write to /proc/sys', writes('/proc/sys/kernel/core_pattern'));
attempt('see process 1', reads('/proc/1/cmdline'));
attempt('see other processes', scalar grep { $_ != $$ && $_ != $shim } grep { /^\d+$/ } map { s{.*/}{}r } glob('/proc/[0-9]*'));
attempt('signal process 1', kill(0, 1));
# Numbers of x86_64 (syscall_64.tbl): ptrace, with PTRACE_ATTACH, process_vm_readv, unshare with CLONE_NEWUSER, mount, reboot.
attempt('trace the shim', syscall(101, 16, $shim, 0, 0) == 0);
attempt("read the shim's memory", reads("/proc/$shim/mem"));
attempt("see the shim's files", lists("/proc/$shim/fd"));
attempt("take the shim's /run", lists("/proc/$shim/fd/3/"));
attempt('make a user namespace', syscall(272, 0x10000000) == 0);
attempt('mount', mounts());
attempt('make a device', makes_device());
attempt('open /dev/mem', reads('/dev/mem'));
attempt('open a disk of the host', scalar grep { reads($_) } glob('/dev/[shv]d[a-z] /dev/nvme*'));
attempt('become root', do { $! = 0; $> = 0; $> == 0 });
attempt('speak IPv4', socket(my $tcp, AF_INET, SOCK_STREAM, 0));
attempt('speak to the network devices', socket(my $packet, 17, SOCK_RAW, 0));
attempt('ask the kernel of networks', socket(my $netlink, 16, SOCK_RAW, 0));
attempt('set the clock', sets_clock());

# The service manager hears only the main process.
socket(my $notify, AF_UNIX, SOCK_DGRAM, 0) or die "socket: $!";
send($notify, "STATUS=taken over\nREADY=1", 0, pack_sockaddr_un($ENV{NOTIFY_SOCKET}));
print STDERR "ATTEMPTS END\n";
sleep 1;
exit 1;
