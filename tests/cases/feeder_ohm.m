function mpc = feeder_ohm
%FEEDER_OHM  Three nodes of a 10 kV feeder in ohm and kW, converted at the end.
mpc.version = '2';
mpc.baseMVA = 10;
mpc.bus = [ %% Pd and Qd in kW and kvar
	1	3	0	0	0	0	1	1	0	10	1	1	1;
	2	1	400	100	0	0	1	1	0	10	1	1.1	0.9;
	3	1	200	50*2	0	0	1	1	0	10	1	1.1	0.9;
];
mpc.gen = [
	1	0	0	10	-10	1	100	1	10	0;
];
mpc.branch = [ %% r and x in ohm
	1	2	0.5	0.4	0	0	0	0	0	0	1	-360	360;
	2	3	1/2	0.4	0	0	0	0 ...
		0	0	1	-360	360;
];
mpc.bus_name = { 'a 100%'; 'it''s [b];'; 'c' };
mpc.reserves.zones = [1 0 0];

[PQ, PV, REF, NONE, BUS_I, BUS_TYPE, PD, QD, GS, BS, BUS_AREA, VM, ...
    VA, BASE_KV] = idx_bus;
[F_BUS, T_BUS, BR_R, BR_X] = idx_brch;
Vbase = mpc.bus(1, BASE_KV) * 1e3;      %% volts
Sbase = mpc.baseMVA * 1e6;              %% VA
mpc.branch(:, [BR_R BR_X]) = mpc.branch(:, [BR_R BR_X]) / (Vbase^2 / Sbase);
mpc.bus(:, [PD, QD]) = mpc.bus(:, [PD, QD]) / 1e3;
mpc.bus(mpc.bus(:, PD) > 0.3, QD) = 0.15;
mpc.bus(end, PD) = 0.25;
