{{/*
What makes each engine in the chart itself: user, ports, container, what it writes to. They run under the same Pod Security as everything
else, so each is told to write nowhere but to its volumes. What is in `memory` counts as the container's.
*/}}
{{- define "groundswell.engine.kafka" -}}
user: 1000
data: /var/lib/kafka
files: {server.properties: /etc/groundswell/server.properties, log4j2.xml: /etc/groundswell/log4j2.xml}
container:
  # The image's own start would write its configuration into the image.
  command: [/bin/bash, -ec]
  args:
    - |
      bin=/opt/kafka/bin properties=/etc/groundswell/server.properties
      if [ ! -e /var/lib/kafka/log/meta.properties ]; then
        $bin/kafka-storage.sh format --cluster-id="$($bin/kafka-storage.sh random-uuid)" -c $properties
      fi
      exec $bin/kafka-server-start.sh $properties
  env:
    - {name: KAFKA_HEAP_OPTS, value: -Xms512m -Xmx512m}
    - {name: KAFKA_LOG4J_OPTS, value: -Dlog4j2.configurationFile=/etc/groundswell/log4j2.xml}
    - {name: LOG_DIR, value: /tmp}
    - {name: EXTRA_ARGS, value: -name kafkaServer} # without a log of collections on disk
  startupProbe: {tcpSocket: {port: client}, periodSeconds: 2, failureThreshold: 90}
  readinessProbe: {tcpSocket: {port: client}, periodSeconds: 5}
  livenessProbe: {tcpSocket: {port: client}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
{{- end -}}

{{- define "groundswell.engine.valkey" -}}
user: 999
container:
  args: [valkey-server, --port, "6379", --dir, /tmp, --save, "", --appendonly, "no", --maxmemory, 256mb, --maxmemory-policy, allkeys-lru]
  startupProbe: {tcpSocket: {port: client}, periodSeconds: 1, failureThreshold: 60}
  readinessProbe: {exec: {command: [valkey-cli, ping]}, periodSeconds: 5, timeoutSeconds: 2}
  livenessProbe: {tcpSocket: {port: client}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
{{- end -}}

{{- define "groundswell.engine.postgres" -}}
user: 999
data: /var/lib/postgresql
writes: [/var/run/postgresql]
# Parallel queries share memory there, and a container runtime gives 64 MiB unless asked.
memory: {path: /dev/shm, size: 256Mi}
container:
  args: [postgres, -c, max_connections={{ include "groundswell.postgresConnections" . }}, -c, shared_buffers=128MB, -c, wal_level=logical]
  env:
    - {name: PGDATA, value: /var/lib/postgresql/18/docker}
    {{- include "groundswell.secretVariable" (list "POSTGRES_PASSWORD" (include "groundswell.name" (list . "engines")) "postgres-password") | nindent 4 }}
  startupProbe: {exec: {command: [pg_isready, -U, postgres, -h, 127.0.0.1]}, periodSeconds: 2, failureThreshold: 90}
  readinessProbe: {exec: {command: [pg_isready, -U, postgres, -h, 127.0.0.1]}, periodSeconds: 5, timeoutSeconds: 3}
  livenessProbe: {tcpSocket: {port: client}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
{{- end -}}

{{/*
How many connections the processes may have together when each of them is as many pods as it may be, and one more that an update adds: in
each pod eleven for every database of its modules (a pool of ten and the relay), and a few for preparation and for people.
*/}}
{{- define "groundswell.postgresConnections" -}}
{{- $wanted := 20 -}}
{{- $modules := (.Files.Get "topology.yaml" | fromYaml).modules -}}
{{- range $process, $facts := include "groundswell.processes" . | fromJson -}}
  {{- $pods := index $.Values.processes $process "replicas" "max" | int | add 1 -}}
  {{- range $facts.modules }}{{ if has "postgres" (index $modules .).uses }}{{ $wanted = add $wanted (mul $pods 11) }}{{ end }}{{ end -}}
{{- end -}}
{{ max 200 $wanted }}
{{- end -}}

{{- define "groundswell.engine.clickhouse" -}}
user: 101
data: /var/lib/clickhouse
writes: [/var/log/clickhouse-server]
files: {config.xml: /etc/clickhouse-server/config.d/groundswell.xml, users.xml: /etc/clickhouse-server/users.d/groundswell.xml}
container:
  # The image's own start would write the password into the image.
  command: [clickhouse-server, --config-file=/etc/clickhouse-server/config.xml]
  env:
    {{- include "groundswell.secretVariable" (list "CLICKHOUSE_PASSWORD" (include "groundswell.name" (list . "engines")) "clickhouse-password") | nindent 4 }}
  startupProbe: {httpGet: {path: /ping, port: client}, periodSeconds: 2, failureThreshold: 90}
  readinessProbe: {httpGet: {path: /ping, port: client}, periodSeconds: 5, timeoutSeconds: 3}
  livenessProbe: {httpGet: {path: /ping, port: client}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
{{- end -}}

{{/* The files of engines, by the names that `files` above mounts. */}}
{{- define "groundswell.engineFiles.kafka" -}}
server.properties: |
  process.roles=broker,controller
  node.id=1
  controller.quorum.voters=1@127.0.0.1:9093
  listeners=PLAINTEXT://0.0.0.0:9092,CONTROLLER://127.0.0.1:9093
  advertised.listeners=PLAINTEXT://{{ include "groundswell.host" (list . "kafka") }}:9092
  controller.listener.names=CONTROLLER
  listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
  log.dirs=/var/lib/kafka/log
  num.partitions=4
  auto.create.topics.enable=false
  offsets.topic.replication.factor=1
  offsets.topic.num.partitions=4
  transaction.state.log.replication.factor=1
  transaction.state.log.min.isr=1
  transaction.state.log.num.partitions=4
  share.coordinator.state.topic.replication.factor=1
  share.coordinator.state.topic.min.isr=1
  group.initial.rebalance.delay.ms=0
  group.min.session.timeout.ms=1000
  broker.session.timeout.ms=2000
  broker.heartbeat.interval.ms=500
  message.max.bytes=8388608
log4j2.xml: |
  <Configuration status="WARN">
    <Appenders><Console name="out"><PatternLayout pattern="%d{ISO8601} %p %c{1} %m%n"/></Console></Appenders>
    <Loggers><Root level="WARN"><AppenderRef ref="out"/></Root><Logger name="kafka.server.KafkaRaftServer" level="INFO"/></Loggers>
  </Configuration>
{{- end -}}

{{- define "groundswell.engineFiles.clickhouse" -}}
config.xml: |
  <clickhouse>
    <listen_host>0.0.0.0</listen_host>
    <logger><level>warning</level><console>1</console><log remove="remove"/><errorlog remove="remove"/></logger>
  </clickhouse>
users.xml: |
  <clickhouse>
    <users>
      <default remove="remove"/>
      <groundswell>
        <password from_env="CLICKHOUSE_PASSWORD"/>
        <networks><ip>::/0</ip></networks>
        <profile>default</profile>
        <quota>default</quota>
      </groundswell>
    </users>
  </clickhouse>
{{- end -}}
