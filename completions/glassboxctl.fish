# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_glassboxctl_global_optspecs
    string join \n h/help V/version
end

function __fish_glassboxctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_glassboxctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_glassboxctl_using_subcommand
    set -l cmd (__fish_glassboxctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c glassboxctl -n "__fish_glassboxctl_needs_command" -s h -l help -d 'Print help'
complete -c glassboxctl -n "__fish_glassboxctl_needs_command" -s V -l version -d 'Print version'
complete -c glassboxctl -n "__fish_glassboxctl_needs_command" -f -a "check" -d 'Print every complaint of definitions, with file, line and column'
complete -c glassboxctl -n "__fish_glassboxctl_needs_command" -f -a "import" -d 'Take over definitions of libvirt\'s, with what belongs to their guests'
complete -c glassboxctl -n "__fish_glassboxctl_needs_command" -f -a "completions" -d 'Print the completions of this program for a shell'
complete -c glassboxctl -n "__fish_glassboxctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c glassboxctl -n "__fish_glassboxctl_using_subcommand check" -l user -d 'The user\'s definitions instead of the system\'s'
complete -c glassboxctl -n "__fish_glassboxctl_using_subcommand check" -s h -l help -d 'Print help'
complete -c glassboxctl -n "__fish_glassboxctl_using_subcommand import" -l from -d 'Where libvirt\'s definitions are [default: /etc/libvirt/qemu, or ~/.config/libvirt/qemu with --user]' -r -f -a "(__fish_complete_directories)"
complete -c glassboxctl -n "__fish_glassboxctl_using_subcommand import" -l all -d 'All guests that libvirt has'
complete -c glassboxctl -n "__fish_glassboxctl_using_subcommand import" -l force -d 'Replace definitions and firmware variables that are there already'
complete -c glassboxctl -n "__fish_glassboxctl_using_subcommand import" -l dry-run -d 'Say what would be done, and change nothing'
complete -c glassboxctl -n "__fish_glassboxctl_using_subcommand import" -l user -d 'From the user\'s libvirt to the user\'s definitions instead of the system\'s'
complete -c glassboxctl -n "__fish_glassboxctl_using_subcommand import" -s h -l help -d 'Print help'
complete -c glassboxctl -n "__fish_glassboxctl_using_subcommand completions" -s h -l help -d 'Print help'
complete -c glassboxctl -n "__fish_glassboxctl_using_subcommand help; and not __fish_seen_subcommand_from check import completions help" -f -a "check" -d 'Print every complaint of definitions, with file, line and column'
complete -c glassboxctl -n "__fish_glassboxctl_using_subcommand help; and not __fish_seen_subcommand_from check import completions help" -f -a "import" -d 'Take over definitions of libvirt\'s, with what belongs to their guests'
complete -c glassboxctl -n "__fish_glassboxctl_using_subcommand help; and not __fish_seen_subcommand_from check import completions help" -f -a "completions" -d 'Print the completions of this program for a shell'
complete -c glassboxctl -n "__fish_glassboxctl_using_subcommand help; and not __fish_seen_subcommand_from check import completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
