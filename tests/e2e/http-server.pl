# Serves a file over HTTP/1.1, with ranges, at a port of this host alone, to who has a cookie and a name with password:
#   perl http-server.pl PORT FILE COOKIE BASE64-OF-NAME:PASSWORD
use strict;
use warnings;
use IO::Socket::INET;

my ($port, $file, $cookie, $login) = @ARGV;
my $size = -s $file;
my $server = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 16, ReuseAddr => 1)
    or die "port $port: $!\n";
$SIG{CHLD} = 'IGNORE';
while (my $client = $server->accept) {
    next if fork;
    open my $image, '<', $file or die "$file: $!\n";
    1 while answer($client, $image);
    exit;
}

# Answers one request of a connection; false when there is no more.
sub answer {
    my ($client, $image) = @_;
    my $request = <$client> // return 0;
    my %header;
    while (my $line = <$client>) {
        last if $line =~ /^\r?$/;
        $header{lc $1} = $2 if $line =~ /^([\w-]+):\s*(.*?)\r?\n$/;
    }
    my $known = ($header{cookie} // '') eq $cookie && ($header{authorization} // '') eq "Basic $login";
    return print $client "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n" if !$known;
    my ($status, $from, $to) = ('200 OK', 0, $size - 1);
    ($status, $from, $to) = ('206 Partial Content', $1, $2) if ($header{range} // '') =~ /^bytes=(\d+)-(\d+)$/;
    my $length = $to - $from + 1;
    my $head = "HTTP/1.1 $status\r\nAccept-Ranges: bytes\r\nContent-Length: $length\r\n";
    $head .= "Content-Range: bytes $from-$to/$size\r\n" if $status =~ /^206/;
    my $body = '';
    if ($request =~ /^GET /) {
        seek $image, $from, 0;
        read $image, $body, $length;
    }
    print $client "$head\r\n$body";
    return 1;
}
