#!/usr/bin/perl
# Starts QEMU once for each job of standard input, in the root in which this runs, and says how QEMU took it.
#
# A job is lines of a word and a value: what the host has for the guest (image, block, node, folder, memory, fifo, write,
# socket, port, host, nbd, bus, tpm, virtiofsd, certificates), the descriptors that QEMU inherits in the order of their numbers (monitor, listen,
# append, open, connect, queue), QEMU's arguments, and `run NAME`. The answer is NAME, a tab, and `accepted` or QEMU's
# last words.
use strict;
use warnings;
use Fcntl qw(O_RDWR O_CREAT O_WRONLY O_APPEND);
use IO::Handle;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use Socket;

# Descriptors are inherited, and each is given its number by dup2(2).
$^F = 4096;
STDOUT->autoflush;
my $limit = 60;

my (@fds, @kept, @made, @servers, @arguments);
my $qmp;

sub parent { my ($path) = @_; return unless $path =~ m{/}; my $at = ''; $at .= "/$_", mkdir($at) for grep { length } split m{/}, $path =~ s{/[^/]*$}{}r }

sub listener {
    my ($path) = @_;
    parent($path);
    unlink $path;
    return IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => $path, Listen => 16) || die "$path: $!\n";
}

sub copy {
    my ($from, $to) = @_;
    parent($to);
    push @made, $to;
    system('cp', '--sparse=always', $from, $to) == 0 or die "$to cannot be copied\n";
}

# An image in this format and of this size, made once and copied.
sub image {
    my ($format, $size, $path) = @_;
    return if -e $path;
    my $made = "/run/images/$format-$size";
    if (!-e $made) {
        parent($made);
        my @secret = $format eq 'luks' ? ('--object', 'secret,id=s,data=secret', '-o', 'key-secret=s,iter-time=10') : ();
        if ($format eq 'raw' || system('qemu-img', 'create', '-q', '-f', $format, @secret, $made, $size) != 0) {
            open(my $new, '>', $made) or die "$made: $!\n";
            truncate($new, $size);
        }
    }
    copy($made, $path);
}

# A block device with an empty image on it: a loop device that the kernel frees when this program ends.
my %loops;
sub block {
    my ($format, $size, $path) = @_;
    my $image = "/run/loop.$format-$size";
    if (!exists $loops{$image}) {
        device('c', 10, 237, '/dev/loop-control');
        device('b', 7, $_, "/dev/loop$_") for 0 .. 63;
        image($format, $size, $image);
        # A loop device has whole sectors only.
        truncate($image, (-s $image) + 511 & ~511);
        chomp(my $loop = `losetup --find --show $image`);
        open($loops{$image}, '<', $loop) or die "no loop device: $!\n";
        system('losetup', '--detach', $loop);
    }
    my $number = (stat $loops{$image})[6];
    device('b', $number >> 8, $number & 255, $path);
    push @made, $path;
}

# A server of disks on a socket's path or a port, each an empty image: NAME:FORMAT:SIZE.
sub nbd {
    my ($where, @disks) = @_;
    my $escaped = $where =~ s/,/,,/gr;
    my $address = $where =~ m{^/} ? "addr.type=unix,addr.path=$escaped" : "addr.type=inet,addr.host=::,addr.port=$where";
    parent($where) if $where =~ m{^/};
    push @made, $where if $where =~ m{^/};
    my $pid = '/run/server.' . scalar @servers;
    my $number = 0;
    my @exports = map {
        my ($name, $format, $size) = /^(.*):(\w+):(\d+)$/;
        my $node = 'n' . scalar(@servers) . '-' . $number++;
        image($format, $size, "/run/nbd.$node");
        ('--blockdev', "file,filename=/run/nbd.$node,node-name=$node",
            '--export', "type=nbd,writable=on,node-name=$node,id=e$node,name=$name")
    } @disks;
    my @server = ('--nbd-server', "$address,max-connections=100");
    system('qemu-storage-daemon', '--daemonize', '--pidfile', $pid, @server, @exports) == 0
        or die "no server of disks at $where\n";
    push @servers, $pid;
}

# What looks like a kernel (the x86 boot protocol's header), so that QEMU loads it.
sub kernel {
    my ($path) = @_;
    parent($path);
    open(my $file, '>', $path) or die "$path: $!\n";
    # setup_sects at 0x1f1, boot_flag at 0x1fe, "HdrS" and the protocol's version at 0x202.
    my $header = "\0" x 65536;
    substr($header, 0x1f1, 1) = "\4";
    substr($header, 0x1fe, 2) = "\x55\xaa";
    substr($header, 0x202, 6) = 'HdrS' . pack('S', 0x020c);
    # The highest address of an initial RAM disk.
    substr($header, 0x22c, 4) = pack('L', 0x37ffffff);
    print $file $header;
    push @made, $path;
}

# A message bus.
sub bus {
    my ($path) = @_;
    parent($path);
    my $pid = '/run/server.' . scalar @servers;
    unlink $path;
    open(my $answer, '-|', 'dbus-daemon', '--session', '--fork', "--address=unix:path=$path", '--print-pid=1')
        or die "dbus-daemon: $!\n";
    chomp(my $number = <$answer> // '');
    open(my $file, '>', $pid) or die "$pid: $!\n";
    print $file $number;
    push @servers, $pid;
}

# A program that is started with these words and makes this socket.
sub program {
    my ($socket, @words) = @_;
    parent($socket);
    unlink $socket;
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        # Nobody reads what it says; a QEMU that it does not serve tells.
        open(STDOUT, '>', '/dev/null');
        open(STDERR, '>', '/dev/null');
        exec @words or POSIX::_exit(127);
    }
    my $file = '/run/server.' . scalar @servers;
    open(my $note, '>', $file) or die "$file: $!\n";
    print $note $pid;
    push @servers, $file;
    for (1 .. 100) { return if -S $socket; select(undef, undef, undef, 0.05) }
    die "$words[0] makes no socket\n";
}

# A TPM of software.
sub tpm {
    my ($socket) = @_;
    system('rm', '-rf', '/run/tpm');
    mkdir '/run/tpm';
    program($socket, 'swtpm', 'socket', '--tpm2', '--tpmstate', 'dir=/run/tpm', '--ctrl', "type=unixio,path=$socket");
}

# A folder for a guest. QEMU 7.2 has a virtiofsd of its own, in C.
sub virtiofsd {
    my ($socket) = @_;
    my @how = -x '/usr/libexec/virtiofsd' ? ('/usr/libexec/virtiofsd', '--shared-dir', '/srv', '--sandbox', 'none')
        : ('/usr/lib/qemu/virtiofsd', '-o', 'source=/srv', '-o', 'sandbox=chroot');
    program($socket, @how, "--socket-path=$socket");
}

sub stopped {
    my ($file) = @_;
    open(my $pid, '<', $file) or return;
    chomp(my $number = <$pid> // '');
    kill 'TERM', $number if $number;
}

# A tap device: TUNSETIFF of linux/if_tun.h, with IFF_TAP, IFF_NO_PI, and what is asked for.
sub tap {
    my ($name, $flags) = @_;
    sysopen(my $tun, '/dev/net/tun', O_RDWR) or die "/dev/net/tun: $!\n";
    my $request = pack('a16 S x22', $name, 0x0002 | 0x1000 | $flags);
    ioctl($tun, 0x400454ca, $request) or die "tap device $name: $!\n";
    return $tun;
}

sub device {
    my ($kind, $major, $minor, $path) = @_;
    return if -e $path;
    parent($path);
    system('mknod', $path, $kind, $major, $minor) == 0 or die "$path cannot be made\n";
}

sub opened { my ($path, $flags) = @_; parent($path); sysopen(my $file, $path, $flags) or die "$path: $!\n"; return $file }

my %does = (
    folder => sub { parent("$_[0]/x") },
    memory => sub { parent($_[0]); push @made, $_[0] },
    image => sub { image(split / /, $_[0], 3) },
    block => sub { block(split / /, $_[0], 3) },
    kernel => sub { kernel($_[0]) },
    port => sub { push @kept, IO::Socket::INET->new(Listen => 16, LocalPort => $_[0], ReuseAddr => 1) // "port $_[0]: $!" },
    host => sub { open(my $f, '>>', '/etc/hosts') or die "/etc/hosts: $!\n"; print $f "127.0.0.1 $_[0]\n" },
    nbd => sub { nbd(split / /, $_[0]) },
    bus => sub { bus($_[0]) },
    tpm => sub { tpm($_[0]) },
    virtiofsd => sub { virtiofsd($_[0]) },
    certificates => sub { parent($_[0]); system('cp', '-rT', '/etc/glassbox-test-pki', $_[0]) },
    node => sub { device(split / /, $_[0], 4) },
    fifo => sub { parent($_[0]); -p $_[0] or POSIX::mkfifo($_[0], 0600) },
    write => sub { my ($path, $text) = split / /, $_[0], 2; parent($path); open(my $f, '>', $path) or die "$path: $!\n"; print $f $text },
    socket => sub { push @kept, listener($_[0]) },
    monitor => sub { socketpair($qmp, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!\n"; push @fds, $theirs },
    listen => sub { push @fds, listener($_[0]) },
    append => sub { push @fds, opened($_[0], O_WRONLY | O_CREAT | O_APPEND) },
    open => sub { push @fds, opened($_[0], O_RDWR) },
    connect => sub { push @fds, IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $_[0]) || die "$_[0]: $!\n" },
    queue => sub { my ($flags, $name) = split / /, $_[0], 2; push @fds, tap($name, $flags) },
    variable => sub { my ($name, $value) = split /=/, $_[0], 2; $ENV{$name} = $value },
    argument => sub { push @arguments, $_[0] },
);

sub start {
    my $log = '/run/stderr';
    my $pid = fork // die "fork: $!\n";
    return $pid if $pid;
    open(STDIN, '<', '/dev/null');
    open(STDOUT, '>', $log);
    open(STDERR, '>&', \*STDOUT);
    # First out of the way of the numbers that they are to have.
    my @high = map { POSIX::dup2(fileno($fds[$_]), 1000 + $_) } 0 .. $#fds;
    POSIX::dup2($high[$_], 3 + $_) for 0 .. $#fds;
    exec @arguments or POSIX::_exit(127);
}

# What QEMU says before it ends by itself, or that it was ready to quit.
sub run {
    my $pid = start();
    syswrite($qmp, qq({"execute":"qmp_capabilities"}\n{"execute":"quit"}\n));
    my $ended = 0;
    local $SIG{ALRM} = sub { kill 'KILL', $pid };
    alarm $limit;
    waitpid($pid, 0);
    alarm 0;
    return 'accepted' if $? == 0;
    open(my $log, '<', '/run/stderr') or return "status $?";
    my @lines = grep { /\S/ && !/: (warning|info): / } <$log>;
    my @words = grep { /qemu-system-\w+: / } @lines;
    my $last = (@words ? $words[-1] : $lines[-1]) // "status $?";
    $last = "no end after $limit s" if $? == 9;
    chomp $last;
    return $last =~ s/\t/ /gr;
}

while (my $line = <STDIN>) {
    chomp $line;
    my ($word, $value) = split / /, $line, 2;
    $value = ($value // '') =~ s/\\(.)/$1 eq 'n' ? "\n" : $1/ger;
    if ($word ne 'run') {
        eval { ($does{$word} // die "no word '$word'\n")->($value); 1 } or push @kept, "not provided: $@";
        next;
    }
    my ($missing) = grep { !ref } @kept;
    my $answer = defined $missing ? $missing =~ s/\n//r : run();
    print "$value\t$answer\n";
    stopped($_) for @servers;
    system('rm', '-rf', @made) if @made;
    (@fds, @kept, @made, @servers, @arguments) = ();
    undef $qmp;
}
