#!/usr/bin/env bash
# Replays the API, every route and body of the README's table in its order, against a running system:
#   make run                      # in one shell
#   docs/replay.sh                # in another; another address: docs/replay.sh http://host:port
# The program must not be there yet; another name for it: PROGRAM=... docs/replay.sh
# Where the gateway asks for a key: API_KEY=... (an admin's: it defines a program).
# Prints each request and how its answer begins; ends with an error at the first that is refused.
set -euo pipefail
url=${1:-http://127.0.0.1:5000}
program=${PROGRAM:-peak_shaving}
key=()
if [ -n "${API_KEY:-}" ]; then key=(--header @-); fi # not as an argument: `ps` shows those

ask() { # curl's options, after those that all requests have
  curl --silent --show-error --max-time 10 --header 'Prefer: return=minimal' ${key[@]+"${key[@]}"} "$@" \
    <<<"Authorization: Bearer ${API_KEY:-}"
}

call() { # method path [body]; leaves what was answered in $answer
  local status
  answer=$(ask --write-out '\n%{http_code}' --request "$1" "$url$2" ${3:+--data "$3"})
  status=${answer##*$'\n'}
  answer=${answer%$'\n'*}
  printf '%s %s%s\n  %s %s\n' "$1" "$2" "${3:+ $3}" "$status" "$(grep -m 1 . <<<"$answer" | cut -c -150)"
  if [ "$status" != 200 ]; then
    echo "  refused: $answer" >&2
    exit 1
  fi
}

told() { # field: what the last answer says of it
  sed -E "s/.*\"$1\":\"?([^\",}]+).*/\1/" <<<"$answer"
}

call POST /run_simulation
call POST /run_simulation '{}'
call GET /get_state
call POST /modify_load_neighbourhood '{"neighbourhood": 1, "factor": 0.8}'
call POST /modify_load_household '{"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0, "new_kvar": 1.0}'
call POST /modify_load_household '{"bus_name": "1", "factor": 0.9}'
call POST /release_load '{"bus_name": "1", "load_name": "Load_1"}'
call POST /release_load '{"bus_name": "1"}'
call POST /add_generator '{"bus_name": "1", "kv": 0.48, "kw": 50.0, "kvar": 10.0, "model": 1, "vmin_pu": 0.9, "vmax_pu": 1.1}'
call POST /remove_generator "{\"generator_name\": \"$(told generator_name)\"}"
call POST /add_generator '{"bus_name": "1", "kw": 100, "phases": 3}'
call POST /remove_generator "{\"generator_name\": \"$(told generator_name)\"}"
call POST /add_device '{"bus_name": "1", "device_name": "EV_Charger_1", "kw": 7.2, "kvar": 1.4, "pf": 0.98}'
call POST /disconnect_device '{"bus_name": "1", "device_name": "EV_Charger_1"}'
call POST /add_device '{"bus_name": "1", "device_name": "EV_Charger_1", "kw": 7.5, "phases": 1}'
call POST /disconnect_device '{"bus_name": "1", "device_name": "EV_Charger_1"}'
call POST /register_dfp "{\"name\": \"$program\", \"min_power_kw\": 100.0, \"target_pf\": 0.95}"
number=$(told number)
call PUT /update_dfp "{\"name\": \"$program\", \"min_power_kw\": 120.0, \"target_pf\": 0.98}"
call POST /subscribe_dfp "{\"bus_name\": \"1\", \"dfp_number\": $number}"
call POST /subscribe_dfp "{\"bus_name\": \"48\", \"dfp_name\": \"$program\"}"
call POST /execute_dfp "{\"dfp_name\": \"$program\"}"
call GET "/dfps/$program"
call POST /stop_dfp "{\"dfp_name\": \"$program\"}"
call POST /unsubscribe_dfp "{\"bus_name\": \"1\", \"dfp_number\": $number}"
call POST /unsubscribe_dfp "{\"bus_name\": \"48\", \"dfp_name\": \"$program\"}"
call DELETE /delete_dfp "{\"name\": \"$program\"}"
call GET /dfps
call GET /feeders
call GET /buses/1
call GET /neighbourhoods
call GET /transformers
call GET /violations
call GET /voltage_profile
echo 'GET /events'
for _ in 1 2 3 4 5; do # it would go on for ever; on a busy machine a second may be too short
  events=$(ask --no-buffer --max-time 1 "$url/events" 2>/dev/null | sed -u '/^data/q') || true
  if grep -q '^data' <<<"$events"; then break; fi
done
cut -c -150 <<<"$events" | sed 's/^/  /'
grep -q '^data' <<<"$events" || { echo '  no event' >&2; exit 1; }
call GET /healthz
call GET /readyz
call GET /metrics
call GET /docs
