# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_cricket_global_optspecs
    string join \n c/config= d/config-dir= log= log-format= runtimes= registries-conf= registries-conf-dir= registries-d= profile= profile-port= profile-cpu= profile-mem= enable-profile-unix-socket= r/root= runroot= imagestore= s/storage-driver= storage-opt= log-dir= version-file= version-file-persist= clean-shutdown-file= internal-wipe= internal-repair= listen= stream-address= stream-port= stream-enable-tls= stream-tls-cert= stream-tls-key= stream-tls-ca= stream-idle-timeout= grpc-max-send-msg-size= grpc-max-recv-msg-size= default-runtime= default-ulimits= no-pivot= decryption-keys-path= conmon= conmon-cgroup= conmon-env= default-env= inject-gomaxprocs= selinux= seccomp-profile= privileged-seccomp-profile= apparmor-profile= blockio-config-file= blockio-reload= rdt-config-file= cdi-spec-dirs= irqbalance-config-file= irqbalance-config-restore-file= cgroup-manager= default-capabilities= add-inheritable-capabilities= default-sysctls= allowed-devices= additional-devices= device-ownership-from-security-context= hooks-dir= default-mounts-file= pids-limit= log-filter= l/log-level= log-size-max= log-journald= container-exits-dir= container-attach-socket-dir= bind-mount-prefix= read-only= uid-mappings= gid-mappings= minimum-mappable-uid= minimum-mappable-gid= ctr-stop-timeout= drop-infra-ctr= infra-ctr-cpuset= shared-cpuset= namespaces-dir= pinns-path= absent-mount-sources-to-reject= enable-criu-support= enable-pod-events= hostnetwork-disable-selinux= disable-hostport-mapping= timezone= default-transport= global-auth-file= pause-image= pause-image-auth-file= pause-command= pinned-images= signature-policy= signature-policy-dir= registry= insecure-registry= image-volumes= big-files-temporary-dir= separate-pull-cgroup= auto-reload-registries= pull-progress-timeout= image-archives-dir= oci-artifact-mount-support= cni-default-network= cni-config-dir= cni-plugin-dir= enable-metrics= metrics-collectors= metrics-host= metrics-port= metrics-socket= metrics-cert= metrics-key= enable-tracing= tracing-endpoint= tracing-sampling-rate-per-million= stats-collection-period= collection-period= included-pod-metrics= enable-nri= nri-listen= nri-plugin-dir= nri-plugin-config-dir= nri-plugin-registration-timeout= nri-plugin-request-timeout= nri-disable-connections= v/version h/help
end

function __fish_cricket_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_cricket_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_cricket_using_subcommand
    set -l cmd (__fish_cricket_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c cricket -n "__fish_cricket_needs_command" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l log -d 'File for the daemon\'s log. Empty means standard error. [env: CONTAINER_LOG]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l log-format -d 'How the log\'s lines are written: text or json. [env: CONTAINER_LOG_FORMAT]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l runtimes -d 'A runtime handler, as NAME:PATH:ROOT and, if wanted, further :TYPE:PRIVILEGED_WITHOUT_HOST_DEVICES:CONFIG_PATH:MIN_MEMORY. [env: CONTAINER_RUNTIMES]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l registries-conf -d 'registries.conf to read instead of the system\'s. [env: CONTAINER_REGISTRIES_CONF]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l registries-conf-dir -d 'Directory of drop-ins for registries.conf instead of the system\'s. [env: CONTAINER_REGISTRIES_CONF_DIR]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l registries-d -d 'Directory that says where signatures of images are (containers-registries.d(5)), instead of /etc/containers/registries.d. [env: CONTAINER_REGISTRIES_D]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l profile -d 'Serve Go profiles. [env: CONTAINER_PROFILE]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l profile-port -d 'Port for Go profiles. [env: CONTAINER_PROFILE_PORT]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l profile-cpu -d 'File for a Go CPU profile. [env: CONTAINER_PROFILE_CPU]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l profile-mem -d 'File for a Go memory profile. [env: CONTAINER_PROFILE_MEM]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l enable-profile-unix-socket -d 'Serve Go profiles on the daemon\'s socket. [env: ENABLE_PROFILE_UNIX_SOCKET]' -r
complete -c cricket -n "__fish_cricket_needs_command" -s r -l root -d 'Directory for what must survive a reboot: images, layers, writable layers of containers. Everything of cricket is below its subdirectory cricket, so the directory can be shared with podman. [env: CONTAINER_ROOT]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l runroot -d 'Directory for what describes running pods and ends with a reboot; it should be on a tmpfs. Everything of cricket is below its subdirectory cricket. [env: CONTAINER_RUNROOT]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l imagestore -d 'Directory for newly pulled images instead of the one in root. Empty means root. [env: CONTAINER_IMAGESTORE]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -s s -l storage-driver -d 'Storage driver. [env: CONTAINER_STORAGE_DRIVER]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l storage-opt -d 'Options of the storage driver, as overlay.mountopt=nodev. [env: CONTAINER_STORAGE_OPT]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l log-dir -d 'Directory for container logs when the kubelet names none. [env: CONTAINER_LOG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l version-file -d 'File that tells a reboot from a restart. [env: CONTAINER_VERSION_FILE]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l version-file-persist -d 'File that tells an upgrade from a restart. [env: CONTAINER_VERSION_FILE_PERSIST]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l clean-shutdown-file -d 'File whose absence tells that the machine was not shut down cleanly. [env: CONTAINER_CLEAN_SHUTDOWN_FILE]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l internal-wipe -d 'Wipe containers after a reboot and images after an upgrade when the daemon starts. [env: CONTAINER_INTERNAL_WIPE]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l internal-repair -d 'Check and repair the storage after an unclean shutdown. [env: CONTAINER_INTERNAL_REPAIR]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l stream-address -d 'Address that exec, attach and port-forward sessions are served on. [env: CONTAINER_STREAM_ADDRESS]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l stream-port -d 'Port of the streaming server; "0" takes any free one. [env: CONTAINER_STREAM_PORT]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l stream-enable-tls -d 'Serve streaming sessions over TLS. [env: CONTAINER_ENABLE_TLS]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l stream-tls-cert -d 'Certificate of the streaming server in PEM; a changed file is picked up. [env: CONTAINER_TLS_CERT]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l stream-tls-key -d 'Key of that certificate in PEM; a changed file is picked up. [env: CONTAINER_TLS_KEY]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l stream-tls-ca -d 'Authorities whose client certificates are demanded; empty demands none. [env: CONTAINER_TLS_CA]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l stream-idle-timeout -d 'Close a streaming session after this long without a byte, for example 30m. Empty means four hours. [env: STREAM_IDLE_TIMEOUT]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l grpc-max-send-msg-size -d 'Largest gRPC message that is sent, in bytes; 0 or less means 80 MiB. [env: CONTAINER_GRPC_MAX_SEND_MSG_SIZE]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l grpc-max-recv-msg-size -d 'Largest gRPC message that is received, in bytes; 0 or less means 80 MiB. [env: CONTAINER_GRPC_MAX_RECV_MSG_SIZE]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l default-runtime -d 'Handler for pods that name no RuntimeClass: a name of the table runtimes. Unless it is set, runc takes the place of crun on a machine that has runc and no crun. [env: CONTAINER_DEFAULT_RUNTIME]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l default-ulimits -d 'Resource limits of containers, as nofile=1024:2048. What is not listed is inherited from the daemon. [env: CONTAINER_DEFAULT_ULIMITS]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l no-pivot -d 'Move the root filesystem into place instead of pivot_root(2), which a node whose root is a ramdisk needs. [env: CONTAINER_NO_PIVOT]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l decryption-keys-path -d 'Directory of keys for encrypted images.' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l conmon -d 'Path of the conmon binary. Empty looks beside the daemon\'s own binary and in its ../lib/cricket and ../libexec/cricket, then for cricket-conmon in $PATH. It must be cricket\'s own conmon: the C program of the same name speaks another protocol. Where it is set, it stands above monitor_path of the handlers. Deprecated: use monitor_path of the handler. [env: CONTAINER_CONMON]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l conmon-cgroup -d 'Cgroup of the monitors. Where it is set, it stands above monitor_cgroup of the handlers. Deprecated: use monitor_cgroup of the handler. [env: CONTAINER_CONMON_CGROUP]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l conmon-env -d 'Environment of the monitors. Where it is set, it stands above monitor_env of the handlers. Deprecated: use monitor_env of the handler. [env: CONTAINER_CONMON_ENV]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l default-env -d 'Variables for every container, as NAME=value; the image and the pod override them. [env: CONTAINER_DEFAULT_ENV]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l inject-gomaxprocs -d 'Smallest GOMAXPROCS that is set from a container\'s CPU request; 0 sets none. [env: CONTAINER_INJECT_GOMAXPROCS]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l selinux -d 'Separate pods by SELinux labels, where the node has SELinux. Where the key is not set and the node\'s kernel has SELinux on, it is true. [env: CONTAINER_SELINUX]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l seccomp-profile -d 'File with the default seccomp profile. Empty means the built-in one. [env: CONTAINER_SECCOMP_PROFILE]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l privileged-seccomp-profile -d 'File with a seccomp profile for privileged containers, which have none otherwise. [env: CONTAINER_PRIVILEGED_SECCOMP_PROFILE]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l apparmor-profile -d 'AppArmor profile of containers that ask for the runtime\'s default, where the node has AppArmor. crio-default is loaded when the daemon starts, which needs apparmor_parser: without it, and with none of that name loaded, such containers have none, and the log warns. Another must be loaded; unconfined means none. [env: CONTAINER_APPARMOR_PROFILE]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l blockio-config-file -d 'File with blockio classes.' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l blockio-reload -d 'Read that file and look for block devices anew for every container.' -r
complete -c cricket -n "__fish_cricket_needs_command" -l rdt-config-file -d 'File with classes of the resctrl filesystem.' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l cdi-spec-dirs -d 'Directories of CDI device specifications; later ones win. [env: CONTAINER_CDI_SPEC_DIRS]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l irqbalance-config-file -d 'Configuration of irqbalance that is edited for pods that ask for CPUs without interrupts.' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l irqbalance-config-restore-file -d 'File with the mask to restore when the daemon starts; disable restores none.' -r
complete -c cricket -n "__fish_cricket_needs_command" -l cgroup-manager -d 'Who creates cgroups; the kubelet asks for it and follows. Where the key is not set and systemd does not run the host, it is cgroupfs. [env: CONTAINER_CGROUP_MANAGER]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l default-capabilities -d 'Capabilities of a container before what its pod adds and drops. [env: CONTAINER_DEFAULT_CAPABILITIES]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l add-inheritable-capabilities -d 'Put capabilities into the inheritable set too, as runtimes before Kubernetes 1.24 did. [env: CONTAINER_ADD_INHERITABLE_CAPABILITIES]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l default-sysctls -d 'Kernel parameters of every pod, as net.ipv4.ping_group_range=0 0; the pod\'s own win. [env: CONTAINER_DEFAULT_SYSCTLS]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l allowed-devices -d 'Devices that a pod may ask for by the annotation devices.crio.io (older name: io.kubernetes.cri-o.Devices), where allowed_annotations of its handler or workload has it. [env: CONTAINER_ALLOWED_DEVICES]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l additional-devices -d 'Devices for every container, as /dev/host:/dev/container:rwm. [env: CONTAINER_ADDITIONAL_DEVICES]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l device-ownership-from-security-context -d 'Give a container\'s devices to its runAsUser and runAsGroup.' -r
complete -c cricket -n "__fish_cricket_needs_command" -l hooks-dir -d 'Directories of OCI hooks: files *.json in the format of oci-hooks(5), versions 1.0.0 and 0.1.0. A file in a later directory hides those of its name in earlier ones. They are looked at for every container that is created. One that cannot be used is in the log, and containers that it is for are refused with its name. [env: CONTAINER_HOOKS_DIR]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l default-mounts-file -d 'File in the format of containers-mounts.conf(5) with files and directories that every container gets a copy of. Empty means /etc/containers/mounts.conf, else /usr/share/containers/mounts.conf. [env: CONTAINER_DEFAULT_MOUNTS_FILE]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l pids-limit -d 'Most processes in one container; 0 or less means no limit. Deprecated: use podPidsLimit of the kubelet. [env: CONTAINER_PIDS_LIMIT]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l log-filter -d 'Regular expression for log messages that are written. [env: CONTAINER_LOG_FILTER]' -r
complete -c cricket -n "__fish_cricket_needs_command" -s l -l log-level -d 'Least important log message that is written: fatal, panic, error, warn, info, debug or trace. [env: CONTAINER_LOG_LEVEL]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l log-size-max -d 'Largest container log in bytes, 8192 or more; negative means no limit. [env: CONTAINER_LOG_SIZE_MAX]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l log-journald -d 'Write container output to the journal as well. [env: CONTAINER_LOG_JOURNALD]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l container-exits-dir -d 'Directory of exit files. [env: CONTAINER_EXITS_DIR]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l container-attach-socket-dir -d 'Directory of attach sockets. [env: CONTAINER_ATTACH_SOCKET_DIR]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l bind-mount-prefix -d 'Where the host\'s root is mounted when the daemon itself runs in a container. [env: CONTAINER_BIND_MOUNT_PREFIX]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l read-only -d 'Give every container a read-only root filesystem, privileged ones too, with a tmpfs on /run, /tmp and /var/tmp. [env: CONTAINER_READ_ONLY]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l uid-mappings -d 'User ids of one user namespace for all containers. [env: CONTAINER_UID_MAPPINGS]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l gid-mappings -d 'Group ids of one user namespace for all containers. [env: CONTAINER_GID_MAPPINGS]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l minimum-mappable-uid -d 'Lowest user id of the host that a mapping may name. [env: CONTAINER_MINIMUM_MAPPABLE_UID]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l minimum-mappable-gid -d 'Lowest group id of the host that a mapping may name. [env: CONTAINER_MINIMUM_MAPPABLE_GID]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l ctr-stop-timeout -d 'Seconds that a container has to be gone after it was killed before stopping it counts as an error; less than 30 is taken as 30. [env: CONTAINER_STOP_TIMEOUT]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l drop-infra-ctr -d 'Start a pause process only for pods that share one PID namespace. [env: CONTAINER_DROP_INFRA_CTR]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l infra-ctr-cpuset -d 'CPUs for pause processes. Empty means all. [env: CONTAINER_INFRA_CTR_CPUSET]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l shared-cpuset -d 'CPUs that guaranteed containers may share when they ask for it. [env: CONTAINER_SHARED_CPUSET]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l namespaces-dir -d 'Directory whose subdirectories netns, ipcns, utsns and userns pin the pods\' namespaces. [env: CONTAINER_NAMESPACES_DIR]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l pinns-path -d 'Path of CRI-O\'s pinns binary. [env: CONTAINER_PINNS_PATH]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l absent-mount-sources-to-reject -d 'Mount sources that must exist: a container that names a missing one fails, where any other missing source is created as a directory. [env: CONTAINER_ABSENT_MOUNT_SOURCES_TO_REJECT]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l enable-criu-support -d 'Checkpoint and restore with criu. [env: CONTAINER_ENABLE_CRIU_SUPPORT]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l enable-pod-events -d 'Send container events to the kubelet, for its evented PLEG. [env: ENABLE_POD_EVENTS]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l hostnetwork-disable-selinux -d 'Leave the containers of host-network pods without SELinux label. [env: CONTAINER_HOSTNETWORK_DISABLE_SELINUX]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l disable-hostport-mapping -d 'Leave host ports to the CNI plugins: they get them as capability portMappings. Otherwise cricket leads them to pods itself, by a table of nftables, and plugins do not get them. A pod keeps what it was made with. [env: DISABLE_HOSTPORT_MAPPING]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l timezone -d 'Time zone of containers: a name such as Europe/Berlin, or Local for the node\'s. Empty leaves it to the image. [env: CONTAINER_TIME_ZONE]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l default-transport -d 'What a name without a transport is read as; images come from registries only. [env: CONTAINER_DEFAULT_TRANSPORT]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l global-auth-file -d 'File with registry credentials for the whole node, in the format of containers-auth.json(5), for what the kubelet sends none for. Empty uses the files of the user that the daemon runs as. [env: CONTAINER_GLOBAL_AUTH_FILE]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l pause-image -d 'Image that is reported as the pause image and kept from the kubelet\'s image collection. cricket runs its own pause binary and never pulls it. [env: CONTAINER_PAUSE_IMAGE]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l pause-image-auth-file -d 'File with credentials for the pause image. [env: CONTAINER_PAUSE_IMAGE_AUTH_FILE]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l pause-command -d 'Command of the pause image. [env: CONTAINER_PAUSE_COMMAND]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l pinned-images -d 'Images that the kubelet may not remove: a name, or with * at its end or at both ends a part of names. Upper and lower case are the same. [env: CONTAINER_PINNED_IMAGES]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l signature-policy -d 'Trust policy instead of /etc/containers/policy.json. [env: CONTAINER_SIGNATURE_POLICY]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l signature-policy-dir -d 'Directory of trust policies per namespace, NAMESPACE.json. A namespace that has a file there is ruled by it alone, the others by the policy for all. [env: CONTAINER_SIGNATURE_POLICY_DIR]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l registry -d 'Registries that a name without a registry may be in, where registries.conf has no unqualified-search-registries. A key of older versions of CRI-O. Deprecated: write unqualified-search-registries = ["HOST"] with the same hosts into registries.conf. [env: CONTAINER_REGISTRIES]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l insecure-registry -d 'Registries that are spoken to without TLS or without checking it: host, host:port or a range of addresses such as 10.0.0.0/8, beside those with insecure = true in registries.conf. CRI-O from 1.35 on ignores this key. [env: CONTAINER_INSECURE_REGISTRY]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l image-volumes -d 'What becomes of volumes that an image declares: mkdir, bind or ignore. [env: CONTAINER_IMAGE_VOLUMES]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l big-files-temporary-dir -d 'Directory for blobs during a pull. [env: CONTAINER_BIG_FILES_TEMPORARY_DIR]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l separate-pull-cgroup -d 'Cgroup that images are pulled in, or pod. [env: PULL_IN_A_CGROUP]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l auto-reload-registries -d 'Take up changes of registries.conf and its drop-ins at once; otherwise at the start and with SIGHUP only. A file that has become wrong changes nothing and is told in the log. [env: AUTO_RELOAD_REGISTRIES]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l pull-progress-timeout -d 'End a pull when no byte of a download has come for this long; 0s means 60 seconds. [env: CONTAINER_PULL_PROGRESS_TIMEOUT]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l image-archives-dir -d 'Directory whose archives (*.tar, also gzip or zstd) and OCI layouts are loaded when the daemon starts, those that are new or have changed since. The socket does not wait for them: until an image is loaded, the kubelet sees it missing and tries again. One that is broken is told in the log and tried again at the next start. Their images may be collected as others are, unless pinned_images names them. Empty loads none. CRI-O has no such key. [env: CONTAINER_IMAGE_ARCHIVES_DIR]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l oci-artifact-mount-support -d 'Mount OCI artifacts as image volumes: each blob is a file, named by its title. [env: CONTAINER_OCI_ARTIFACT_SUPPORT]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l cni-default-network -d 'Name of the CNI network for pods. Empty means the first in network_dir. [env: CONTAINER_CNI_DEFAULT_NETWORK]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l cni-config-dir -d 'Directory of CNI configuration; it is watched. [env: CONTAINER_CNI_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l cni-plugin-dir -d 'Directories of CNI plugins, first match wins. [env: CONTAINER_CNI_PLUGIN_DIR]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l enable-metrics -d 'Serve metrics. [env: CONTAINER_ENABLE_METRICS]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l metrics-collectors -d 'Metrics that are served, with or without container_runtime_crio_ in front. [env: CONTAINER_METRICS_COLLECTORS]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l metrics-host -d 'Address of the endpoint. [env: CONTAINER_METRICS_HOST]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l metrics-port -d 'Port of the endpoint. [env: CONTAINER_METRICS_PORT]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l metrics-socket -d 'Unix socket to serve metrics on as well. [env: CONTAINER_METRICS_SOCKET]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l metrics-cert -d 'Certificate of the endpoint in PEM; a changed file is picked up. [env: CONTAINER_METRICS_CERT]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l metrics-key -d 'Key of that certificate in PEM; a changed file is picked up. [env: CONTAINER_METRICS_KEY]' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l enable-tracing -d 'Export traces. [env: CONTAINER_ENABLE_TRACING]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l tracing-endpoint -d 'Address of the collector (OTLP over gRPC). [env: CONTAINER_TRACING_ENDPOINT]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l tracing-sampling-rate-per-million -d 'How many of a million calls are traced; those that the kubelet traces always are. [env: CONTAINER_TRACING_SAMPLING_RATE_PER_MILLION]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l stats-collection-period -d 'The old name of collection_period, which wins over it. [env: CONTAINER_STATS_COLLECTION_PERIOD]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l collection-period -d 'Seconds for which a sample of a pod or container is answered again; 0 takes one for each call. Metrics are always measured anew. [env: COLLECTION_PERIOD]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l included-pod-metrics -d 'Groups of metrics that ListPodSandboxMetrics tells: cpu, disk, diskIO, hugetlb, memory, network, oom, pressure, process, spec or all. [env: CONTAINER_INCLUDED_POD_METRCIS]' -r
complete -c cricket -n "__fish_cricket_needs_command" -l enable-nri -d 'Let NRI plugins see and adjust pods and containers.' -r
complete -c cricket -n "__fish_cricket_needs_command" -l nri-listen -d 'Socket for plugins that are started by others.' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l nri-plugin-dir -d 'Directory of plugins that the daemon starts.' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l nri-plugin-config-dir -d 'Directory of those plugins\' configuration.' -r -F
complete -c cricket -n "__fish_cricket_needs_command" -l nri-plugin-registration-timeout -d 'How long a plugin may take to register.' -r
complete -c cricket -n "__fish_cricket_needs_command" -l nri-plugin-request-timeout -d 'How long a plugin may take to answer.' -r
complete -c cricket -n "__fish_cricket_needs_command" -l nri-disable-connections -d 'Refuse plugins that are started by others.' -r
complete -c cricket -n "__fish_cricket_needs_command" -s v -l version -d 'Print the version'
complete -c cricket -n "__fish_cricket_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "check" -d 'Verify images, layers and records, and repair by removing what is broken'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "config" -d 'Print the configuration in effect, where each value comes from, or what is wrong'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "doctor" -d 'Look after a node'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "images" -d 'List the images of the node: sizes, users, and what their removal would free'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "load" -d 'Import the images of an OCI layout or `docker save` archive into the daemon'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "operations" -d 'Show what is being done to pods and containers, for how long, and what it waits for'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "policy" -d 'Ask the daemon what its trust policy says'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "pull" -d 'Pull an image and show its progress; prints the image\'s id'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "pulls" -d 'Show the pulls in flight, what they wait for, and how the last ones ended'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "rmi" -d 'Remove images with all their names, unless a container uses them'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "save" -d 'Write images of the daemon to an archive or an OCI layout directory'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "stop" -d 'Stop the containers of all pods, static pods last, for a node that goes down'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "version" -d 'Print the version'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "wipe" -d 'Remove all images, containers and pods of this node, after asking'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "complete" -d 'Print completions for bash, fish or zsh'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "completion" -d 'Print completions for bash, fish or zsh'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "man" -d 'Print a manual page in roff'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "markdown" -d 'Print the command line as Markdown'
complete -c cricket -n "__fish_cricket_needs_command" -f -a "md" -d 'Print the command line as Markdown'
complete -c cricket -n "__fish_cricket_using_subcommand check" -s a -l age -d 'Tell of layers without an image that are older than this' -r
complete -c cricket -n "__fish_cricket_using_subcommand check" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand check" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand check" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand check" -s q -l quick -d 'Read records and documents only, not every byte of every layer'
complete -c cricket -n "__fish_cricket_using_subcommand check" -s r -l repair -d 'Remove damaged images; layers that others share intact stay, and so does what a container uses'
complete -c cricket -n "__fish_cricket_using_subcommand check" -s f -l force -d 'With --repair: also end and remove damaged containers, and those that use a damaged image; needs the daemon'
complete -c cricket -n "__fish_cricket_using_subcommand check" -s w -l wipe -d 'Accepted for CRI-O\'s sake and without effect: a failed repair is no reason to remove what is whole; cricket wipe removes everything'
complete -c cricket -n "__fish_cricket_using_subcommand check" -l json -d 'Print JSON'
complete -c cricket -n "__fish_cricket_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cricket -n "__fish_cricket_using_subcommand config" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand config" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand config" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand config" -l default -d 'Print every key with its default and its meaning, whatever is configured'
complete -c cricket -n "__fish_cricket_using_subcommand config" -l check -d 'Only check: files, values, the programs that handlers need, seccomp and AppArmor profiles, the time zone, default mounts, registries.conf, policy.json with its keys, registries.d, certs.d and OCI hooks; the exit code is not 0 when there is anything to report'
complete -c cricket -n "__fish_cricket_using_subcommand config" -s h -l help -d 'Print help'
complete -c cricket -n "__fish_cricket_using_subcommand doctor; and not __fish_seen_subcommand_from leaks" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand doctor; and not __fish_seen_subcommand_from leaks" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand doctor; and not __fish_seen_subcommand_from leaks" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand doctor; and not __fish_seen_subcommand_from leaks" -s h -l help -d 'Print help'
complete -c cricket -n "__fish_cricket_using_subcommand doctor; and not __fish_seen_subcommand_from leaks" -f -a "leaks" -d 'List what pods and containers have left behind, and sweep it'
complete -c cricket -n "__fish_cricket_using_subcommand doctor; and __fish_seen_subcommand_from leaks" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand doctor; and __fish_seen_subcommand_from leaks" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand doctor; and __fish_seen_subcommand_from leaks" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand doctor; and __fish_seen_subcommand_from leaks" -l fix -d 'Sweep what is found; the exit code is 1 when something stays'
complete -c cricket -n "__fish_cricket_using_subcommand doctor; and __fish_seen_subcommand_from leaks" -l json -d 'Print JSON: leaks, swept and problems'
complete -c cricket -n "__fish_cricket_using_subcommand doctor; and __fish_seen_subcommand_from leaks" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cricket -n "__fish_cricket_using_subcommand images" -s o -l output -d 'table, or json with sizes in bytes' -r -f -a "table\t''
json\t''"
complete -c cricket -n "__fish_cricket_using_subcommand images" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand images" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand images" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand images" -l tree -d 'Show the layers of each image, what shares them and what is only its own'
complete -c cricket -n "__fish_cricket_using_subcommand images" -s h -l help -d 'Print help'
complete -c cricket -n "__fish_cricket_using_subcommand load" -s i -l input -d 'The same, as docker and podman have it' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand load" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand load" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand load" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand load" -s h -l help -d 'Print help'
complete -c cricket -n "__fish_cricket_using_subcommand operations" -s o -l output -d 'table, or json with times in milliseconds' -r -f -a "table\t''
json\t''"
complete -c cricket -n "__fish_cricket_using_subcommand operations" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand operations" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand operations" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand operations" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cricket -n "__fish_cricket_using_subcommand policy; and not __fish_seen_subcommand_from test" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand policy; and not __fish_seen_subcommand_from test" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand policy; and not __fish_seen_subcommand_from test" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand policy; and not __fish_seen_subcommand_from test" -s h -l help -d 'Print help'
complete -c cricket -n "__fish_cricket_using_subcommand policy; and not __fish_seen_subcommand_from test" -f -a "test" -d 'Tell whether an image would be accepted, and why, without pulling it'
complete -c cricket -n "__fish_cricket_using_subcommand policy; and __fish_seen_subcommand_from test" -l namespace -d 'Kubernetes namespace, which may have a policy of its own' -r
complete -c cricket -n "__fish_cricket_using_subcommand policy; and __fish_seen_subcommand_from test" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand policy; and __fish_seen_subcommand_from test" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand policy; and __fish_seen_subcommand_from test" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand policy; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cricket -n "__fish_cricket_using_subcommand pull" -l creds -d 'Credentials for the image\'s registry' -r
complete -c cricket -n "__fish_cricket_using_subcommand pull" -l authfile -d 'An auth.json to be read instead of the configured ones' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand pull" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand pull" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand pull" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand pull" -s q -l quiet -d 'Print the id alone'
complete -c cricket -n "__fish_cricket_using_subcommand pull" -s h -l help -d 'Print help'
complete -c cricket -n "__fish_cricket_using_subcommand pulls" -s o -l output -d 'table, or json with sizes in bytes (with --watch, a document a line)' -r -f -a "table\t''
json\t''"
complete -c cricket -n "__fish_cricket_using_subcommand pulls" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand pulls" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand pulls" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand pulls" -s w -l watch -d 'Go on showing them until ^C'
complete -c cricket -n "__fish_cricket_using_subcommand pulls" -s h -l help -d 'Print help'
complete -c cricket -n "__fish_cricket_using_subcommand rmi" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand rmi" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand rmi" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand rmi" -s h -l help -d 'Print help'
complete -c cricket -n "__fish_cricket_using_subcommand save" -s o -l output -d 'File, or directory of oci-dir, to write; `-` is standard output' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand save" -l format -d 'Form of what is written' -r -f -a "oci-archive\t''
oci-dir\t''
docker-archive\t''"
complete -c cricket -n "__fish_cricket_using_subcommand save" -l compress -d 'Compress each layer; not for docker-archive' -r -f -a "none\t''
gzip\t''
zstd\t''"
complete -c cricket -n "__fish_cricket_using_subcommand save" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand save" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand save" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand save" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cricket -n "__fish_cricket_using_subcommand stop" -l timeout -d 'Kill what has not ended then, whatever its pod\'s grace period' -r
complete -c cricket -n "__fish_cricket_using_subcommand stop" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand stop" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand stop" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand stop" -l all -d 'The containers of all pods; there is no other choice, and no default'
complete -c cricket -n "__fish_cricket_using_subcommand stop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cricket -n "__fish_cricket_using_subcommand version" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand version" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand version" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand version" -s j -l json -d 'Print it as JSON'
complete -c cricket -n "__fish_cricket_using_subcommand version" -s h -l help -d 'Print help'
complete -c cricket -n "__fish_cricket_using_subcommand wipe" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand wipe" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand wipe" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand wipe" -s f -l force -d 'Do not ask'
complete -c cricket -n "__fish_cricket_using_subcommand wipe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cricket -n "__fish_cricket_using_subcommand complete" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand complete" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand complete" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand complete" -s h -l help -d 'Print help'
complete -c cricket -n "__fish_cricket_using_subcommand completion" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand completion" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand completion" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand completion" -s h -l help -d 'Print help'
complete -c cricket -n "__fish_cricket_using_subcommand man" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand man" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand man" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand man" -s h -l help -d 'Print help'
complete -c cricket -n "__fish_cricket_using_subcommand markdown" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand markdown" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand markdown" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand markdown" -s h -l help -d 'Print help'
complete -c cricket -n "__fish_cricket_using_subcommand md" -s c -l config -d 'Configuration file. When it is named here it must exist; an empty name reads none. [env: CONTAINER_CONFIG]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand md" -s d -l config-dir -d 'Directory of further configuration files, which are applied to the configuration in lexical order of their names, directories inside it included. [env: CONTAINER_CONFIG_DIR]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand md" -l listen -d 'Unix socket that the daemon answers on. A kubelet that is given exactly /var/run/crio/crio.sock takes container statistics from cAdvisor instead of the CRI. [env: CONTAINER_LISTEN]' -r -F
complete -c cricket -n "__fish_cricket_using_subcommand md" -s h -l help -d 'Print help'
