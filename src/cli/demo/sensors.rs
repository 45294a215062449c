//! The sensors of one pump and the physics that ties them together.
//!
//! Pure arithmetic: no noise, no time, no randomness. Six hidden factors drive 24 sensors, so that every sensor can be
//! foretold from the others; that is what a detector of joint structure lives on. The relations are the textbook ones
//! of a centrifugal pump: affinity laws, a falling head curve, hydraulic power over efficiency.

/// Sensors in one record.
pub const N_SENSORS: usize = 24;

/// One value for each sensor, in the order of [`SENSORS`].
pub type Values = [f64; N_SENSORS];

/// What a sensor is called and how finely it reports.
#[derive(Clone, Copy, Debug)]
pub struct Sensor {
    /// Name with its unit, as in the record.
    pub name: &'static str,
    /// Decimals that the transmitter sends.
    pub decimals: i32,
}

const fn sensor(name: &'static str, decimals: i32) -> Sensor {
    Sensor { name, decimals }
}

/// The sensors of every pump, in the order of the record.
pub const SENSORS: [Sensor; N_SENSORS] = [
    sensor("inlet_pressure_bar", 3),
    sensor("outlet_pressure_bar", 3),
    sensor("diff_pressure_bar", 3),
    sensor("flow_m3h", 1),
    sensor("speed_rpm", 0),
    sensor("valve_opening_pct", 1),
    sensor("motor_current_a", 2),
    sensor("motor_power_kw", 2),
    sensor("motor_torque_nm", 1),
    sensor("winding_temp_c", 1),
    sensor("bearing_temp_de_c", 2),
    sensor("bearing_temp_nde_c", 2),
    sensor("vibration_de_mm_s", 3),
    sensor("vibration_nde_mm_s", 3),
    sensor("oil_temp_c", 2),
    sensor("oil_pressure_bar", 3),
    sensor("seal_pressure_bar", 3),
    sensor("seal_leakage_ml_h", 1),
    sensor("tank_level_pct", 1),
    sensor("water_temp_c", 2),
    sensor("casing_temp_c", 2),
    sensor("cooling_out_temp_c", 2),
    sensor("ambient_temp_c", 2),
    sensor("sound_level_db", 2),
];

/// Groups of sensors that share a cable or a junction box, and so fail together.
pub const GROUPS: [&[usize]; 4] = [
    &[6, 7, 8],      // electrical: current, power, torque
    &[1, 2, 3],      // hydraulic: outlet and differential pressure, flow
    &[9, 10, 11],    // thermal: winding and both bearings
    &[6, 7, 21, 14], // drive cabinet: current, power, cooling, oil
];

/// The hidden state of one pump at one moment. Every factor lies in [-1, 1]; 0 is the rated point.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Operation {
    /// Demand on the pump.
    pub load: f64,
    /// Set point of the speed.
    pub speed: f64,
    /// Level of the tank it draws from.
    pub suction: f64,
    /// Temperature of the water.
    pub water: f64,
    /// Temperature of the hall.
    pub ambient: f64,
    /// Wear and lubrication of the bearings.
    pub wear: f64,
}

/// Computes what perfect sensors show at `at`.
pub fn physics(at: &Operation) -> Values {
    let speed = 1.0 + 0.06 * at.speed;
    let flow = speed * (1.0 + 0.15 * at.load);
    let head = 1.3 * speed * speed - 0.3 * flow * flow - 0.03 * at.wear;
    let diff = 5.2 * head;
    let inlet = 1.45 + 0.40 * at.suction - 0.12 * flow * flow;
    let best_point = flow / speed - 1.0;
    let efficiency = 0.78 - 0.5 * best_point * best_point - 0.02 * at.wear;
    let flow_m3h = 180.0 * flow;
    let power = flow_m3h / 3600.0 * diff * 100.0 / efficiency;
    let rpm = 1480.0 * speed;
    let torque = power * 1000.0 / (rpm * std::f64::consts::TAU / 60.0);
    let current = power / (3.0_f64.sqrt() * 0.4 * 0.86);
    let duty = power / 33.0 - 1.0;
    let ambient = 21.0 + 6.0 * at.ambient;
    let water = 15.0 + 4.0 * at.water;
    let oil = 24.0 + 0.5 * ambient + 8.0 * duty + 3.0 * at.wear;
    let seal = inlet + 0.35 * diff;
    [
        inlet,
        inlet + diff,
        diff,
        flow_m3h,
        rpm,
        62.0 + 24.0 * at.load + 3.0 * at.speed,
        current,
        power,
        torque,
        ambient + 42.0 + 26.0 * duty,
        26.0 + 0.6 * ambient + 10.0 * duty + 5.0 * at.wear,
        24.0 + 0.6 * ambient + 7.0 * duty + 4.0 * at.wear + 12.0 * (speed - 1.0),
        1.8 + 0.6 * at.wear + 4.5 * (speed - 1.0) + 2.0 * best_point * best_point,
        1.5 + 0.5 * at.wear + 2.8 * (speed - 1.0) + 0.4 * at.load,
        oil,
        2.9 + 3.0 * (speed - 1.0) - 0.03 * (oil - 35.0),
        seal,
        42.0 + 12.0 * at.wear + 9.0 * (seal - 3.1),
        56.0 + 27.0 * at.suction,
        water,
        3.0 + 0.8 * water + 0.2 * ambient + 4.0 * duty,
        water + 7.5 + 5.0 * duty,
        ambient,
        78.0 + 2.5 * at.wear + 24.0 * (speed - 1.0) + 1.5 * at.load,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rated_point_is_a_plausible_pump() {
        let values = physics(&Operation::default());
        let of = |name: &str| values[SENSORS.iter().position(|sensor| sensor.name == name).unwrap()];
        assert!((of("speed_rpm") - 1480.0).abs() < 1e-9);
        assert!((of("outlet_pressure_bar") - of("inlet_pressure_bar") - of("diff_pressure_bar")).abs() < 1e-9);
        assert!((30.0..37.0).contains(&of("motor_power_kw")));
        let joules = of("motor_torque_nm") * of("speed_rpm") * std::f64::consts::TAU / 60.0;
        assert!((joules / 1000.0 - of("motor_power_kw")).abs() < 1e-6);
    }

    #[test]
    fn groups_and_names_are_sound() {
        for group in GROUPS {
            assert!(group.iter().all(|&sensor| sensor < N_SENSORS));
        }
        let mut names: Vec<&str> = SENSORS.iter().map(|sensor| sensor.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), N_SENSORS);
    }
}
