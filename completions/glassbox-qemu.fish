complete -c glassbox-qemu -l instance -d 'Start the guest of unit qemu@INSTANCE.service, whose NAME.xml is looked for in the directories of definitions' -r
complete -c glassbox-qemu -l companion -d 'Be a program beside a guest instead, the one that serves this device: what --hand-over found in the guest\'s plan; for swtpm@.service, virtiofsd@.service and others like them' -r
complete -c glassbox-qemu -l xml-fd -d 'Read the domain XML from this inherited file descriptor to its end' -r
complete -c glassbox-qemu -l name -d 'The guest\'s name, instead of the definition\'s' -r
complete -c glassbox-qemu -l uuid -d 'The guest\'s UUID, instead of the definition\'s' -r
complete -c glassbox-qemu -l incoming -d 'Wait for a migration to come in instead of booting: from a URI of QEMU\'s, from an inherited file descriptor, or from where the other monitor says (`defer`)' -r
complete -c glassbox-qemu -l probe -d 'Ask a QEMU binary what it is and can do, print that as JSON, and start no guest' -r -F
complete -c glassbox-qemu -l declare -d 'Give unit qemu@INSTANCE.service its settings when systemd has none for it yet, as before the first start of a template\'s guest, and start no guest; used by glassbox-instance@.service' -r
complete -c glassbox-qemu -l completions -d 'Print the completions of this program for a shell, and start nothing' -r -f -a "bash\t''
elvish\t''
fish\t''
powershell\t''
zsh\t''"
complete -c glassbox-qemu -l fd -d 'Use this open file descriptor for a device instead of opening one; may be repeated. NAME is an interface\'s alias such as net0 (a tap device, once for each pair of queues), net0-vhost, vsock0, a disk\'s target or fdgroup, or kvm' -r
complete -c glassbox-qemu -l register -d 'Whether the management daemon must know of the guest' -r -f -a "auto\t'Claim the guest\'s name when there is a daemon; without one, start and register when it comes'
required\t'Do not start without a claim'
no\t'Start without a claim, and never register'"
complete -c glassbox-qemu -l registry -d 'The registry\'s socket' -r -F
complete -c glassbox-qemu -l start-timeout -d 'How long QEMU may take until the guest\'s CPUs run, before it is killed; in a unit the default is for ever, for its TimeoutStartSec= bounds the start, elsewhere 600' -r
complete -c glassbox-qemu -l stop-timeout -d 'How long the guest may take to power down when it is stopped, before QEMU is quit; in a unit the default is most of its TimeoutStopSec=, elsewhere 80; with 0 the guest is not asked' -r
complete -c glassbox-qemu -l pidfile -d 'Write the id of this process, the guest\'s main one, to a file once QEMU is started; removed when the guest has ended' -r -F
complete -c glassbox-qemu -l die-with-parent -d 'End QEMU at once when the process that started this program has ended; its PID, if given, also tells when it ended before this program could watch it' -r
complete -c glassbox-qemu -l user -d 'Look for the definition and the registry in the user\'s directories instead of the system\'s'
complete -c glassbox-qemu -l paused -d 'Leave the guest\'s CPUs stopped until somebody resumes them over the guest\'s other monitor'
complete -c glassbox-qemu -l print-args -d 'Print QEMU\'s command line, one argument a line, and start nothing'
complete -c glassbox-qemu -l print-xml -d 'Print the domain XML with its defaults filled in and its addresses assigned, and start nothing'
complete -c glassbox-qemu -l check -d 'Print every fault of the definition and every part of it that is left out, and start nothing'
complete -c glassbox-qemu -l hand-over -d 'Open what the guest needs, hand that to the service manager for the unit\'s sandboxed main process, and start nothing; for ExecStartPre= of qemu@.service and those of companions, as root'
complete -c glassbox-qemu -l take-back -d 'Remove what --hand-over made and the kernel does not remove by itself; for ExecStopPost= of qemu@.service, as root'
complete -c glassbox-qemu -l reload -d 'Make a running guest what its definition says, as far as that goes without a restart, and say what needs one; for ExecReload= of qemu@.service, as root'
complete -c glassbox-qemu -l listening -d 'Wait until a companion\'s program listens at the socket that it makes itself; for ExecStartPost= of its unit'
complete -c glassbox-qemu -l transient -d 'Tell the registry that the definition is not kept once the guest has ended'
complete -c glassbox-qemu -l standalone -d 'Talk to no registry, no bus and no service manager, claim nothing, and use a runtime directory of this run\'s own'
complete -c glassbox-qemu -s h -l help -d 'Print help (see more with \'--help\')'
complete -c glassbox-qemu -s V -l version -d 'Print version'
