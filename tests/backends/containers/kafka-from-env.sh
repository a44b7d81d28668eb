#!/bin/sh
# Start the broker as Kafka's own image does: KAFKA_NODE_ID becomes node.id, a new data folder is formatted.
set -eu
settings=/tmp/server.properties
env | sed -n '/^KAFKA_HEAP_OPTS=/d; s/^KAFKA_//p' | while IFS='=' read -r name value; do
  printf '%s=%s\n' "$(printf '%s' "$name" | tr 'A-Z_' 'a-z.')" "$value"
done >"$settings"
java="java $KAFKA_HEAP_OPTS -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
# shellcheck disable=SC2086 # the options are words
$java -cp '/opt/kafka/jars/*' kafka.tools.StorageTool format --ignore-formatted -t "$CLUSTER_ID" -c "$settings"
# shellcheck disable=SC2086
exec $java -cp '/opt/kafka/jars/*' kafka.Kafka "$settings"
