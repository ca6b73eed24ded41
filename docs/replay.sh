#!/usr/bin/env bash
# Replays the API, every route in the order of the README's table, against a running system:
#   make run                      # in one shell
#   docs/replay.sh                # in another; another address: docs/replay.sh http://host:port
# Where the gateway asks for a key: API_KEY=... (an admin's: it defines a program).
# Prints each request and how its answer begins; ends with an error at the first that is refused.
set -euo pipefail
url=${1:-http://127.0.0.1:5000}
key=()
if [ -n "${API_KEY:-}" ]; then key=(--header @-); fi # not as an argument: `ps` shows those

call() { # method path [body]
  local answer status
  answer=$(curl --silent --show-error --max-time 10 --write-out '\n%{http_code}' \
    --header 'Prefer: return=minimal' ${key[@]+"${key[@]}"} --request "$1" "$url$2" ${3:+--data "$3"} \
    <<<"Authorization: Bearer ${API_KEY:-}")
  status=${answer##*$'\n'}
  answer=${answer%$'\n'*}
  printf '%s %s%s\n  %s %s\n' "$1" "$2" "${3:+ $3}" "$status" "$(head -n 1 <<<"$answer" | cut -c -150)"
  if [ "$status" != 200 ]; then
    echo "  refused: $answer" >&2
    exit 1
  fi
}

call POST /run_simulation '{}'
call GET /get_state
call POST /modify_load_neighbourhood '{"neighbourhood": 1, "factor": 0.8}'
call POST /modify_load_household '{"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0, "new_kvar": 1.0}'
call POST /modify_load_household '{"bus_name": "1", "factor": 0.9}'
call POST /release_load '{"bus_name": "1", "load_name": "Load_1"}'
call POST /add_generator '{"bus_name": "1", "kv": 0.48, "kw": 50.0, "kvar": 10.0, "model": 1, "vmin_pu": 0.9, "vmax_pu": 1.1, "generator_name": "PV_1"}'
call POST /remove_generator '{"generator_name": "PV_1"}'
call POST /add_device '{"bus_name": "1", "device_name": "EV_Charger_1", "kw": 7.2, "kvar": 1.4, "pf": 0.98}'
call POST /disconnect_device '{"bus_name": "1", "device_name": "EV_Charger_1"}'
call POST /register_dfp '{"name": "replayed", "min_power_kw": 100.0, "target_pf": 0.95}'
call PUT /update_dfp '{"name": "replayed", "min_power_kw": 120.0, "target_pf": 0.98}'
call POST /subscribe_dfp '{"bus_name": "48", "dfp_name": "replayed"}'
call POST /execute_dfp '{"dfp_name": "replayed"}'
call GET /dfps/replayed
call POST /stop_dfp '{"dfp_name": "replayed"}'
call POST /unsubscribe_dfp '{"bus_name": "48", "dfp_name": "replayed"}'
call DELETE /delete_dfp '{"name": "replayed"}'
call GET /dfps
call GET /feeders
call GET /buses/1
call GET /neighbourhoods
call GET /transformers
call GET /violations
call GET /voltage_profile
call GET /metrics
call GET /healthz
call GET /readyz
