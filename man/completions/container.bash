# bash completion for container, made by: container --generate bash DIR
_container()
{
	local cur=${COMP_WORDS[COMP_CWORD]} path='' try words='' i
	for ((i = 1; i < COMP_CWORD; i++)); do
		[[ ${COMP_WORDS[i]} == -* ]] && continue
		try="${path:+$path }${COMP_WORDS[i]}"
		case $try in
		''|'create'|'delete'|'exec'|'inspect'|'kill'|'list'|'logs'|'run'|'start'|'stop'|'image'|'image delete'|'image history'|'image inspect'|'image list'|'image load'|'image prune'|'image pull'|'image push'|'image save'|'image tag'|'images'|'history'|'load'|'login'|'logout'|'pull'|'registry'|'registry list'|'registry login'|'registry logout'|'rmi'|'push'|'save'|'tag'|'system'|'system df'|'system doctor'|'system kernel'|'system kernel set'|'system logs'|'system property'|'system property list'|'system start'|'system status'|'system stop'|'system version'|'attach'|'pause'|'port'|'prune'|'rename'|'restart'|'stats'|'top'|'unpause'|'wait'|'copy'|'export'|'events'|'update'|'diff'|'commit'|'volume'|'volume create'|'volume delete'|'volume inspect'|'volume list'|'volume prune') path=$try ;;
		esac
	done
	case $path in
	'') words='create delete exec inspect kill list logs run start stop image images history load login logout pull registry rmi push save tag system attach pause port prune rename restart stats top unpause wait copy export events update diff commit volume --generate-completion-script --debug --version --help -h' ;;
	'create') words='--env -e --env-file --gid --interactive -i --tty -t --user -u --uid --workdir -w --ulimit --cpus -c --memory -m --arch -a --cap-add --cap-drop --cidfile --detach -d --dns --dns-domain --dns-option --dns-search --entrypoint --group-add --hostname --init --kernel -k --kernel-arg --label -l --log-opt --masked-path --mount --name --network --no-dns --oom-score-adj --os --pids-limit --privileged --pull --publish -p --publish-all -P --platform --publish-socket --read-only --read-only-path --restart --rm --rosetta --runtime --security-opt --ssh --shm-size --sysctl --stop-signal --stop-timeout --tmpfs --virtualization --volume -v --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout --no-healthcheck --scheme --max-concurrent-downloads --debug --version --help -h' ;;
	'delete') words='--all -a --force -f --debug --version --help -h' ;;
	'exec') words='--detach -d --env -e --env-file --gid --interactive -i --tty -t --user -u --uid --workdir -w --ulimit --debug --version --help -h' ;;
	'inspect') words='--debug --version --help -h' ;;
	'kill') words='--all -a --signal -s --debug --version --help -h' ;;
	'list') words='--all -a --filter -f --format --last -n --latest -l --no-trunc --quiet -q --size -s --debug --version --help -h' ;;
	'logs') words='--boot --follow -f --lines -n --since --until --timestamps -t --debug --version --help -h' ;;
	'run') words='--env -e --env-file --gid --interactive -i --tty -t --user -u --uid --workdir -w --ulimit --cpus -c --memory -m --arch -a --cap-add --cap-drop --cidfile --detach -d --dns --dns-domain --dns-option --dns-search --entrypoint --group-add --hostname --init --kernel -k --kernel-arg --label -l --log-opt --masked-path --mount --name --network --no-dns --oom-score-adj --os --pids-limit --privileged --pull --publish -p --publish-all -P --platform --publish-socket --read-only --read-only-path --restart --rm --rosetta --runtime --security-opt --ssh --shm-size --sysctl --stop-signal --stop-timeout --tmpfs --virtualization --volume -v --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout --no-healthcheck --progress --scheme --max-concurrent-downloads --debug --version --help -h' ;;
	'start') words='--attach -a --interactive -i --debug --version --help -h' ;;
	'stop') words='--all -a --signal -s --time -t --debug --version --help -h' ;;
	'image') words='delete history inspect list load prune pull push save tag --debug --version --help -h' ;;
	'image delete') words='--all -a --force -f --debug --version --help -h' ;;
	'image history') words='--format --no-trunc --debug --version --help -h' ;;
	'image inspect') words='--format -f --debug --version --help -h' ;;
	'image list') words='--filter -f --format --no-trunc --quiet -q --verbose -v --debug --version --help -h' ;;
	'image load') words='--input -i --force -f --progress --quiet -q --debug --version --help -h' ;;
	'image prune') words='--all -a --filter --debug --version --help -h' ;;
	'image pull') words='--scheme --progress --max-concurrent-downloads --quiet -q --arch -a --os --platform --debug --version --help -h' ;;
	'image push') words='--scheme --progress --quiet -q --arch -a --os --platform --debug --version --help -h' ;;
	'image save') words='--output -o --format --progress --arch -a --os --platform --debug --version --help -h' ;;
	'image tag') words='--debug --version --help -h' ;;
	'images') words='--filter -f --format --no-trunc --quiet -q --verbose -v --debug --version --help -h' ;;
	'history') words='--format --no-trunc --debug --version --help -h' ;;
	'load') words='--input -i --force -f --progress --quiet -q --debug --version --help -h' ;;
	'login') words='--scheme --username -u --password -p --password-stdin --debug --version --help -h' ;;
	'logout') words='--debug --version --help -h' ;;
	'pull') words='--scheme --progress --max-concurrent-downloads --quiet -q --arch -a --os --platform --debug --version --help -h' ;;
	'registry') words='list login logout --debug --version --help -h' ;;
	'registry list') words='--format --quiet -q --debug --version --help -h' ;;
	'registry login') words='--scheme --username -u --password -p --password-stdin --debug --version --help -h' ;;
	'registry logout') words='--debug --version --help -h' ;;
	'rmi') words='--all -a --force -f --debug --version --help -h' ;;
	'push') words='--scheme --progress --quiet -q --arch -a --os --platform --debug --version --help -h' ;;
	'save') words='--output -o --format --progress --arch -a --os --platform --debug --version --help -h' ;;
	'tag') words='--debug --version --help -h' ;;
	'system') words='df doctor kernel logs property start status stop version --debug --version --help -h' ;;
	'system df') words='--format --debug --version --help -h' ;;
	'system doctor') words='--format --debug --version --help -h' ;;
	'system kernel') words='set --debug --version --help -h' ;;
	'system kernel set') words='--arch --binary --modules --name --force --recommended --tar --digest --debug --version --help -h' ;;
	'system logs') words='--follow -f --last --debug --version --help -h' ;;
	'system property') words='list --debug --version --help -h' ;;
	'system property list') words='--format --debug --version --help -h' ;;
	'system start') words='--app-root -a --install-root --log-root --enable-kernel-install --disable-kernel-install --timeout --debug --version --help -h' ;;
	'system status') words='--prefix -p --format --debug --version --help -h' ;;
	'system stop') words='--debug --version --help -h' ;;
	'system version') words='--format --debug --version --help -h' ;;
	'attach') words='--no-stdin --debug --version --help -h' ;;
	'pause') words='--debug --version --help -h' ;;
	'port') words='--debug --version --help -h' ;;
	'prune') words='--debug --version --help -h' ;;
	'rename') words='--debug --version --help -h' ;;
	'restart') words='--all -a --signal -s --time -t --debug --version --help -h' ;;
	'stats') words='--all -a --format --no-trunc --no-stream --debug --version --help -h' ;;
	'top') words='--debug --version --help -h' ;;
	'unpause') words='--debug --version --help -h' ;;
	'wait') words='--debug --version --help -h' ;;
	'copy') words='--archive -a --follow-link -L --quiet -q --debug --version --help -h' ;;
	'export') words='--output -o --debug --version --help -h' ;;
	'events') words='--filter -f --format --since --until --debug --version --help -h' ;;
	'update') words='--cpus -c --cpu-shares --memory -m --memory-reservation --pids-limit --restart --debug --version --help -h' ;;
	'diff') words='--format --debug --version --help -h' ;;
	'commit') words='--author -a --change -c --message -m --no-pause --progress --debug --version --help -h' ;;
	'volume') words='create delete inspect list prune --debug --version --help -h' ;;
	'volume create') words='--driver -d --label --opt -o --size -s --debug --version --help -h' ;;
	'volume delete') words='--all -a --debug --version --help -h' ;;
	'volume inspect') words='--format -f --debug --version --help -h' ;;
	'volume list') words='--filter -f --format --quiet -q --debug --version --help -h' ;;
	'volume prune') words='--debug --version --help -h' ;;
	esac
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _container container
