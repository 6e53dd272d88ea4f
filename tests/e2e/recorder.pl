#!/usr/bin/perl
# Writes down what a process has from its parent, one `NAME<TAB>VALUE` a line.
#
#   recorder.pl FILE PROGRAM...   of itself, opens much that nobody else is to have, and becomes the program
#   recorder.pl --of PID          of another process, as far as the kernel shows it, to standard output
#   qemu ARGUMENT...              of itself, to the file `record` beside it, and becomes QEMU
use strict;
use warnings;
use Fcntl;
use File::Basename;
use POSIX ();

if (basename($0) eq 'qemu') {
    record(dirname($0) . '/record', 'self', descriptors => descriptors(), named => named(@ARGV), of_self());
    exec '/usr/bin/qemu-system-x86_64', @ARGV or die "qemu: $!\n";
}
my ($file, @program) = @ARGV;
if ($file eq '--of') {
    print lines(of_proc($program[0]));
    exit 0;
}
# JOIN_SESSION_KEYRING of keyctl(2): a keyring that nobody else has.
syscall(250, 1, my $name = "of-$$");
# And a signal that nobody sends is blocked.
POSIX::sigprocmask(POSIX::SIG_BLOCK, POSIX::SigSet->new(POSIX::SIGURG));
record($file, 'self', of_self());
my @junk = junk();
exec @program or die "$program[0]: $!\n";

sub record {
    my ($file, $pid, %more) = @_;
    open(my $out, '>', "$file.new") or die "$file: $!\n";
    print $out lines(of_proc($pid), %more);
    close $out;
    rename("$file.new", $file) or die "$file: $!\n";
}

sub lines { my %all = @_; return map { "$_\t$all{$_}\n" } sort keys %all }

# What the kernel shows of any process, proc(5).
sub of_proc {
    my ($pid) = @_;
    my %all = map { /^([^:]+):\s*(.*)/ ? ("status $1", $2) : () } split /\n/, content("/proc/$pid/status");
    my @unlike = qw(Name State Tgid Ngid Pid PPid NStgid NSpid NSpgid NSsid FDSize TracerPid Threads SigPnd ShdPnd
        SigQ SigCgt Kthread untag_mask CoreDumping HugetlbPages x86_Thread_features x86_Thread_features_locked
        voluntary_ctxt_switches nonvoluntary_ctxt_switches);
    delete $all{"status $_"} for @unlike;
    delete @all{grep { /^status (Vm|Rss)/ } keys %all};
    $all{$_} = flat(content("/proc/$pid/$_")) for qw(cgroup coredump_filter environ gid_map loginuid oom_score_adj
        personality sessionid setgroups timerslack_ns uid_map), 'attr/current';
    $all{"link $_"} = readlink("/proc/$pid/$_") // "$!" for qw(cwd root);
    for (glob "/proc/$pid/ns/*") { $all{'ns ' . basename($_)} = readlink // "$!" }
    for (split /\n/, content("/proc/$pid/limits")) { $all{"limit $1"} = $2 if /^(Max .*?)\s{2,}(.*?)\s*$/ }
    # What follows the name in proc_pid_stat(5), from the state on, which is its third field.
    my @stat = split ' ', content("/proc/$pid/stat") =~ s/.*\)//sr;
    my %field = (pgrp => 5, session => 6, tty => 7, priority => 18, nice => 19, 'rt priority' => 40, policy => 41);
    $all{"stat $_"} = $stat[$field{$_} - 3] for keys %field;
    return %all;
}

# What only the process itself can ask for.
sub of_self {
    my %all;
    my $ask = sub { my ($name, @call) = @_; my $got = syscall($call[0], @call[1 .. $#call]); $all{$name} = $got < 0 ? "$!" : $got };
    $ask->('session keyring', 250, 0, -3, 0);       # KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING
    $ask->('I/O priority', 252, 1, 0);              # ioprio_get(2), IOPRIO_WHO_PROCESS
    $ask->('secure bits', 157, 27, 0, 0, 0, 0);     # PR_GET_SECUREBITS
    $ask->('no huge pages', 157, 42, 0, 0, 0, 0);   # PR_GET_THP_DISABLE
    $ask->('machine checks', 157, 34, 0, 0, 0, 0);  # PR_MCE_KILL_GET
    return %all;
}

# The numbers that are open, but for Perl's own.
sub descriptors {
    opendir(my $folder, '/proc/self/fd') or die "/proc/self/fd: $!\n";
    my @numbers = grep { /^\d+$/ && $_ != fileno($folder) } readdir $folder;
    my $own = sub { my $path = readlink("/proc/self/fd/$_[0]"); defined $path && $path eq $0 };
    return join ' ', sort { $a <=> $b } grep { !$own->($_) } @numbers;
}

# The numbers that QEMU's arguments name, and standard input, output and error.
sub named {
    my %named = map { $_ => 1 } 0 .. 2, map { /\bfd"?[=:](\d+)/g } @_;
    return join ' ', sort { $a <=> $b } keys %named;
}

# Hundreds of open files and sockets, low and high, half of them left open by exec.
sub junk {
    my @junk;
    for my $number (1 .. 300) {
        open(my $null, '<', '/dev/null') or die "/dev/null: $!\n";
        push @junk, $null;
        fcntl($null, F_SETFD, 0) or die "F_SETFD: $!\n" if $number % 2;
    }
    for my $above (1000, 2000, 4000) {
        my $high = fcntl($junk[0], F_DUPFD, $above) or die "F_DUPFD: $!\n";
        push @junk, $high;
    }
    return @junk;
}

sub content {
    open(my $in, '<', $_[0]) or return "$!";
    local $/;
    return readline($in) // "$!";
}

sub flat { my ($text) = @_; chomp $text; return $text =~ tr/\n\0/|;/r }
